package terraform

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// module is the parsed configuration of a directory.
type module struct {
	t      *testing.T
	dir    string
	blocks []*hclsyntax.Block
}

func parse(t *testing.T, dir string) *module {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("%s has no configuration", dir)
	}
	m := &module{t: t, dir: dir}
	parser := hclparse.NewParser()
	for _, name := range files {
		f, diags := parser.ParseHCLFile(name)
		m.fine(diags)
		m.blocks = append(m.blocks, f.Body.(*hclsyntax.Body).Blocks...)
	}
	return m
}

func (m *module) fine(diags hcl.Diagnostics) {
	m.t.Helper()
	if diags.HasErrors() {
		m.t.Fatal(diags)
	}
}

// all returns the blocks of a type, such as resource, whose labels begin with those given.
func (m *module) all(kind string, labels ...string) []*hclsyntax.Block {
	var out []*hclsyntax.Block
next:
	for _, b := range m.blocks {
		if b.Type != kind || len(b.Labels) < len(labels) {
			continue
		}
		for i, l := range labels {
			if b.Labels[i] != l {
				continue next
			}
		}
		out = append(out, b)
	}
	return out
}

// resource returns the only one of a type and name.
func (m *module) resource(kind, name string) *hclsyntax.Body {
	m.t.Helper()
	found := m.all("resource", kind, name)
	if len(found) != 1 {
		m.t.Fatalf("there are %d resources %s.%s, want 1", len(found), kind, name)
	}
	return found[0].Body
}

// inner returns the only block of a type in a body.
func (m *module) inner(b *hclsyntax.Body, kind string) *hclsyntax.Body {
	m.t.Helper()
	var found []*hclsyntax.Block
	for _, in := range b.Blocks {
		if in.Type == kind {
			found = append(found, in)
		}
	}
	if len(found) != 1 {
		m.t.Fatalf("there are %d blocks %s, want 1", len(found), kind)
	}
	return found[0].Body
}

// value evaluates an attribute; cty.NilVal if it is not there.
func (m *module) value(b *hclsyntax.Body, name string, ctx *hcl.EvalContext) cty.Value {
	m.t.Helper()
	a, ok := b.Attributes[name]
	if !ok {
		return cty.NilVal
	}
	v, diags := a.Expr.Value(ctx)
	m.fine(diags)
	return v
}

// text is value as a string, and "absent" if it is not there.
func (m *module) text(b *hclsyntax.Body, name string, ctx *hcl.EvalContext) string {
	m.t.Helper()
	v := m.value(b, name, ctx)
	if v == cty.NilVal {
		return "absent"
	}
	s, err := convert.Convert(v, cty.String)
	must(m.t, err)
	if s.IsNull() {
		return "null"
	}
	return s.AsString()
}

// context evaluates the module's variables and locals: given over defaults, and made-up attributes of resources.
func (m *module) context(given, resources map[string]cty.Value) *hcl.EvalContext {
	m.t.Helper()
	vars := map[string]cty.Value{}
	for _, b := range m.all("variable") {
		if v := m.value(b.Body, "default", nil); v != cty.NilVal {
			vars[b.Labels[0]] = v
		}
	}
	maps.Copy(vars, given)
	ctx := &hcl.EvalContext{Variables: maps.Clone(resources), Functions: functions()}
	ctx.Variables["var"] = cty.ObjectVal(vars)
	ctx.Variables["path"] = cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal(m.dir)})
	locals := map[string]cty.Value{}
	left := map[string]hclsyntax.Expression{}
	for _, b := range m.all("locals") {
		for name, a := range b.Body.Attributes {
			left[name] = a.Expr
		}
	}
	for len(left) > 0 { // a local may need others
		before := len(left)
		var last hcl.Diagnostics
		for name, e := range left {
			ctx.Variables["local"] = cty.ObjectVal(locals)
			v, diags := e.Value(ctx)
			if diags.HasErrors() {
				last = diags
				continue
			}
			locals[name] = v
			delete(left, name)
		}
		if len(left) == before {
			m.t.Fatal(last)
		}
	}
	ctx.Variables["local"] = cty.ObjectVal(locals)
	return ctx
}

// TestReferencesAreToSomething does a part of "terraform validate", which needs the provider.
func TestReferencesAreToSomething(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", "example"} {
		m := parse(t, dir)
		there := map[string]bool{}
		for _, b := range m.blocks {
			switch b.Type {
			case "resource":
				there[b.Labels[0]+"."+b.Labels[1]] = true
			case "data":
				there["data."+b.Labels[0]+"."+b.Labels[1]] = true
			case "variable":
				there["var."+b.Labels[0]] = true
			case "module":
				there["module."+b.Labels[0]] = true
			case "locals":
				for name := range b.Body.Attributes {
					there["local."+name] = true
				}
			}
		}
		seen := 0
		for _, b := range m.blocks {
			for _, v := range references(b.Body) {
				if b.Type == "variable" && len(v) == 1 {
					continue // a type, such as string
				}
				seen++
				name, steps := v.RootName(), 1
				switch name {
				case "path", "each", "p", "f", "ami": // the last three: of for expressions, and in ignore_changes
					continue
				case "data":
					steps = 2
				}
				for _, step := range v[1:min(1+steps, len(v))] {
					if attr, ok := step.(hcl.TraverseAttr); ok {
						name += "." + attr.Name
					}
				}
				if !there[name] {
					t.Errorf("%s: %s is nowhere", v.SourceRange(), name)
				}
			}
		}
		if seen == 0 {
			t.Errorf("no reference in %s was looked at", dir)
		}
	}
}

// references are all of a body and the blocks in it.
func references(b *hclsyntax.Body) []hcl.Traversal {
	var out []hcl.Traversal
	for _, a := range b.Attributes {
		out = append(out, a.Expr.Variables()...)
	}
	for _, in := range b.Blocks {
		out = append(out, references(in.Body)...)
	}
	return out
}

// functions are those of Terraform's that the module uses, with their semantics.
func functions() map[string]function.Function {
	all := pure()
	maps.Copy(all, reading())
	return all
}

// readFile is the content of a file of the module.
func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return string(b)
}
