package terraform

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// pure are functions of their arguments alone.
func pure() map[string]function.Function {
	return map[string]function.Function{
		"can":        tryfunc.CanFunc,
		"contains":   stdlib.ContainsFunc,
		"floor":      stdlib.FloorFunc,
		"jsonencode": stdlib.JSONEncodeFunc,
		"keys":       stdlib.KeysFunc,
		"regex":      stdlib.RegexFunc,
		"toset":      stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"length": function.New(&function.Spec{
			Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
			Type:   function.StaticReturnType(cty.Number),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				if args[0].Type() == cty.String {
					return stdlib.Strlen(args[0])
				}
				return args[0].Length(), nil
			},
		}),
		"one": function.New(&function.Spec{
			Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
			Type:   function.StaticReturnType(cty.DynamicPseudoType),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				switch n := args[0].LengthInt(); n {
				case 0:
					return cty.NullVal(cty.DynamicPseudoType), nil
				case 1:
					return args[0].Index(cty.NumberIntVal(0)), nil
				default:
					return cty.NilVal, fmt.Errorf("the list has %d elements", n)
				}
			},
		}),
		// The network functions are only asked whether their argument is a prefix; its form is what conditions check.
		"cidrhost": ofText(2, func(s string) (string, error) {
			p, err := netip.ParsePrefix(s)
			return p.Masked().Addr().String(), err
		}),
		"cidrnetmask": ofText(1, func(s string) (string, error) {
			p, err := netip.ParsePrefix(s)
			if err == nil && !p.Addr().Is4() {
				err = errors.New("only IPv4 has netmasks")
			}
			return s, err
		}),
	}
}

// reading are functions that read files.
func reading() map[string]function.Function {
	sum := func(encode func([]byte) string) func(string) (string, error) {
		return func(name string) (string, error) {
			b, err := os.ReadFile(name)
			sum := sha256.Sum256(b)
			return encode(sum[:]), err
		}
	}
	return map[string]function.Function{
		"file": ofText(1, func(name string) (string, error) {
			b, err := os.ReadFile(name)
			return string(b), err
		}),
		"filesha256":       ofText(1, sum(hex.EncodeToString)),
		"filebase64sha256": ofText(1, sum(base64.StdEncoding.EncodeToString)),
		"templatefile": function.New(&function.Spec{
			Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "vars", Type: cty.DynamicPseudoType}},
			Type:   function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				name := args[0].AsString()
				b, err := os.ReadFile(name)
				if err != nil {
					return cty.NilVal, err
				}
				e, diags := hclsyntax.ParseTemplate(b, filepath.Base(name), hcl.InitialPos)
				if diags.HasErrors() {
					return cty.NilVal, diags
				}
				vars := args[1].AsValueMap()
				used := map[string]bool{}
				for _, v := range e.Variables() {
					used[v.RootName()] = true
				}
				for name := range vars {
					if !used[name] {
						return cty.NilVal, fmt.Errorf("the template does not use %s", name)
					}
				}
				v, diags := e.Value(&hcl.EvalContext{Variables: vars, Functions: pure()})
				if diags.HasErrors() {
					return cty.NilVal, diags
				}
				return v, nil
			},
		}),
	}
}

// ofText makes a function of its first argument, with more that do not matter.
func ofText(params int, f func(string) (string, error)) function.Function {
	spec := &function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			return cty.StringVal(s), err
		},
	}
	for range params - 1 {
		spec.Params = append(spec.Params, function.Parameter{Name: "more", Type: cty.DynamicPseudoType})
	}
	return function.New(spec)
}
