package terraform

import (
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

func TestVariablesTakeWhatIsRightAndRefuseWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := cty.StringVal
	n := cty.NumberFloatVal
	null := cty.NullVal(cty.String)
	cases := map[string]struct{ right, wrong []cty.Value }{
		"name":               {[]cty.Value{s("bradawl"), s("b2-x")}, []cty.Value{s(""), s("b"), s("2b"), s("Bradawl"), s("a b"), s("a/b"), s("abcdefghijklmnopqrstuvwxyz")}},
		"release_dir":        {[]cty.Value{s("dist")}, []cty.Value{s("")}},
		"release_version":    {[]cty.Value{s("v1.2.3"), s("v0.1.0-rc.1")}, []cty.Value{s("1.2.3"), s("v1.2"), s("latest"), s("v1.2.3/x")}},
		"architecture":       {[]cty.Value{s("arm64"), s("amd64")}, []cty.Value{s("x86_64"), s("")}},
		"instance_type":      {[]cty.Value{null, s("t4g.micro"), s("c7gn.medium"), s("u-6tb1.metal")}, []cty.Value{s("micro"), s(""), s("t4g.micro ")}},
		"subnet_id":          {[]cty.Value{null, s("subnet-0123456789abcdef0")}, []cty.Value{s(""), s("vpc-0123456789abcdef0"), s("subnet-")}},
		"vpc_cidr":           {[]cty.Value{s("10.0.0.0/16"), s("10.78.0.0/24"), s("10.0.0.0/27")}, []cty.Value{s("10.0.0.0"), s("10.0.0.0/8"), s("10.0.0.0/28"), s("fd00::/24"), s("300.0.0.0/24")}},
		"allowed_cidr":       {[]cty.Value{s("0.0.0.0/0"), s("198.51.100.0/24")}, []cty.Value{s("everybody"), s("198.51.100.1"), s("::/0")}},
		"token_lifetime":     {[]cty.Value{s("8760h"), s("1h")}, []cty.Value{s("0h"), s("1y"), s("8760"), s("1h\nlisten: :1")}},
		"worker_memory_mb":   {[]cty.Value{n(128), n(10240)}, []cty.Value{n(127), n(10241), n(128.5)}},
		"function_timeout_s": {[]cty.Value{n(1), n(900)}, []cty.Value{n(0), n(901), n(1.5)}},
		"worker_concurrency": {[]cty.Value{n(-1), n(1), n(1000)}, []cty.Value{n(0), n(-2), n(1.5)}},
		"exchange_days":      {[]cty.Value{n(1), n(30)}, []cty.Value{n(0), n(1.5)}},
		"log_days":           {[]cty.Value{n(1), n(14), n(365)}, []cty.Value{n(0), n(2)}},
	}
	m := parse(t, ".")
	variables := m.all("variable")
	if len(variables) != len(cases) {
		t.Errorf("%d variables, %d tested", len(variables), len(cases))
	}
	for _, b := range variables {
		name := b.Labels[0]
		c, ok := cases[name]
		if !ok {
			t.Errorf("nothing is said of variable %s", name)
			continue
		}
		if m.text(b.Body, "description", nil) == "absent" {
			t.Errorf("variable %s has no description", name)
		}
		check := m.inner(b.Body, "validation")
		takes := func(v cty.Value) bool {
			ctx := &hcl.EvalContext{Functions: pure(), Variables: map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{name: v})}}
			return m.value(check, "condition", ctx).True()
		}
		if def := m.value(b.Body, "default", nil); def != cty.NilVal {
			if def.IsNull() {
				def = null
			}
			c.right = append(c.right, def)
		}
		for _, v := range c.right {
			if !takes(v) {
				t.Errorf("%s refuses %#v", name, v)
			}
		}
		for _, v := range c.wrong {
			if takes(v) {
				t.Errorf("%s takes %#v", name, v)
			}
		}
		if m.text(check, "error_message", nil) == "absent" {
			t.Errorf("%s does not say what is wrong", name)
		}
	}
}
