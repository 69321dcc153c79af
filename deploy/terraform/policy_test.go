package terraform

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

const (
	testVersion = "v0.0.0-test"
	publicIP    = "203.0.113.7"
)

// planned is the module with a release in a directory, and made-up attributes of what AWS would have made.
func planned(t *testing.T, release string) (*module, *hcl.EvalContext) {
	t.Helper()
	m := parse(t, ".")
	object := func(names ...string) cty.Value {
		attrs := map[string]cty.Value{}
		for _, n := range names {
			key, value, _ := strings.Cut(n, "=")
			attrs[key] = cty.StringVal(value)
		}
		return cty.ObjectVal(attrs)
	}
	group := cty.ObjectVal
	buckets := map[string]cty.Value{
		"exchange": object("id=b-exchange", "arn=arn:exchange"),
		"release":  object("id=b-release", "arn=arn:release"),
	}
	kept := map[string]cty.Value{}
	for _, name := range keptNames(m) {
		kept[name] = object("arn=arn:parameter/bradawl/" + name)
	}
	ctx := m.context(
		map[string]cty.Value{"release_dir": cty.StringVal(release), "release_version": cty.StringVal(testVersion)},
		map[string]cty.Value{
			"data":                     group(map[string]cty.Value{"aws_region": group(map[string]cty.Value{"current": object("region=eu-west-1")}), "aws_subnet": group(map[string]cty.Value{"given": cty.EmptyTupleVal})}),
			"aws_eip":                  group(map[string]cty.Value{"server": object("public_ip=" + publicIP)}),
			"aws_instance":             group(map[string]cty.Value{"server": object("id=i-1")}),
			"aws_s3_bucket":            group(map[string]cty.Value{"this": group(buckets)}),
			"aws_s3_object":            group(map[string]cty.Value{"server": object("key=server.tar.gz")}),
			"aws_subnet":               group(map[string]cty.Value{"public": cty.TupleVal([]cty.Value{object("id=subnet-1")})}),
			"aws_vpc":                  group(map[string]cty.Value{"this": cty.TupleVal([]cty.Value{object("id=vpc-1")})}),
			"aws_ssm_parameter":        group(map[string]cty.Value{"kept": group(kept)}),
			"aws_cloudwatch_log_group": group(map[string]cty.Value{"function": group(map[string]cty.Value{"worker": object("arn=arn:log-worker"), "probe": object("arn=arn:log-probe")})}),
			"aws_lambda_function":      group(map[string]cty.Value{"this": group(map[string]cty.Value{"worker": object("function_name=bradawl-worker"), "probe": object("function_name=bradawl-probe")})}),
		})
	return m, ctx
}

// keptNames are the parameters that outlive the instance.
func keptNames(m *module) []string {
	m.t.Helper()
	for _, b := range m.all("locals") {
		if v := m.value(b.Body, "kept", nil); v != cty.NilVal {
			var names []string
			for _, e := range v.AsValueSlice() {
				names = append(names, e.AsString())
			}
			return names
		}
	}
	m.t.Fatal("there is no local.kept")
	return nil
}

// emptyRelease has the names of a release's files.
func emptyRelease(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bradawl_%s_linux_arm64.tar.gz", "bradawl-worker_%s_lambda_arm64.zip", "bradawl-probe_%s_lambda_arm64.zip"} {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf(name, testVersion)), nil, 0o600))
	}
	return dir
}

func TestExactlyTheServersPortsAreOpen(t *testing.T) {
	t.Parallel()
	m, ctx := planned(t, emptyRelease(t))
	var got []string
	for _, b := range m.all("resource", "aws_vpc_security_group_ingress_rule") {
		got = append(got, fmt.Sprintf("%s %s-%s from %s", m.text(b.Body, "ip_protocol", ctx), m.text(b.Body, "from_port", ctx), m.text(b.Body, "to_port", ctx), m.text(b.Body, "cidr_ipv4", ctx)))
	}
	slices.Sort(got)
	if want := []string{"tcp 3478-3478 from 0.0.0.0/0", "udp 3478-3479 from 0.0.0.0/0"}; !slices.Equal(got, want) {
		t.Errorf("inbound %q, want %q", got, want)
	}
	for _, b := range m.all("resource", "aws_security_group") {
		if len(b.Body.Blocks) > 0 || b.Body.Attributes["ingress"] != nil {
			t.Errorf("security group %s has rules of its own", b.Labels[1])
		}
	}
	for _, kind := range []string{"aws_security_group_rule", "aws_key_pair", "aws_default_security_group"} {
		if found := m.all("resource", kind); len(found) > 0 {
			t.Errorf("there is a %s", kind)
		}
	}
}

func TestTheServerIsHardened(t *testing.T) {
	t.Parallel()
	m, ctx := planned(t, emptyRelease(t))
	server := m.resource("aws_instance", "server")
	if got := m.text(m.inner(server, "metadata_options"), "http_tokens", ctx); got != "required" {
		t.Errorf("IMDSv2 is %s", got)
	}
	if got := m.text(m.inner(server, "metadata_options"), "http_put_response_hop_limit", ctx); got != "1" {
		t.Errorf("the hop limit is %s", got)
	}
	if got := m.text(m.inner(server, "root_block_device"), "encrypted", ctx); got != "true" {
		t.Errorf("the disk's encryption is %s", got)
	}
	if server.Attributes["key_name"] != nil {
		t.Error("the server has an SSH key")
	}
	if got := m.text(server, "instance_type", ctx); got != "t4g.micro" {
		t.Errorf("the default type is %s", got)
	}
	if got := m.text(server, "user_data_replace_on_change", ctx); got != "true" {
		t.Errorf("new user data replaces the server: %s", got)
	}
}

func TestBucketsAreClosedEncryptedAndEmptyThemselves(t *testing.T) {
	t.Parallel()
	m, ctx := planned(t, emptyRelease(t))
	block := m.resource("aws_s3_bucket_public_access_block", "this")
	for _, name := range []string{"block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"} {
		if got := m.text(block, name, ctx); got != "true" {
			t.Errorf("%s is %s", name, got)
		}
	}
	for _, kind := range []string{"aws_s3_bucket_public_access_block", "aws_s3_bucket_server_side_encryption_configuration", "aws_s3_bucket_policy"} {
		if got := m.value(m.resource(kind, "this"), "for_each", ctx); got.LengthInt() != m.value(m.resource("aws_s3_bucket", "this"), "for_each", ctx).LengthInt() {
			t.Errorf("%s is not for every bucket", kind)
		}
	}
	rule := m.inner(m.inner(m.resource("aws_s3_bucket_server_side_encryption_configuration", "this"), "rule"), "apply_server_side_encryption_by_default")
	if got := m.text(rule, "sse_algorithm", ctx); got != "AES256" {
		t.Errorf("encryption is %s", got)
	}
	life := m.inner(m.resource("aws_s3_bucket_lifecycle_configuration", "exchange"), "rule")
	if s, d := m.text(life, "status", ctx), m.text(m.inner(life, "expiration"), "days", ctx); s != "Enabled" || d != "1" {
		t.Errorf("objects expire: %s, after %s days", s, d)
	}
	if d := m.text(m.inner(life, "abort_incomplete_multipart_upload"), "days_after_initiation", ctx); d != "1" {
		t.Errorf("unfinished uploads stay %s days", d)
	}
}

// statement is one of an IAM policy.
type statement struct {
	Effect           string
	Action, Resource any
	Principal        any
	Condition        map[string]map[string]string
	Sid              string
	NotAction        any
	NotResource      any
	NotPrincipal     any
}

func policy(t *testing.T, text string) []statement {
	t.Helper()
	var doc struct {
		Version   string
		Statement []statement
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	must(t, d.Decode(&doc))
	if doc.Version != "2012-10-17" {
		t.Errorf("policy of version %q", doc.Version)
	}
	return doc.Statement
}

func TestRolesMayDoWhatTheyMustAndNoMore(t *testing.T) {
	t.Parallel()
	m, ctx := planned(t, emptyRelease(t))
	list := func(items ...string) []any {
		var out []any
		for _, i := range items {
			out = append(out, i)
		}
		return out
	}
	logs := func(each string) statement {
		return statement{Sid: "Logs", Effect: "Allow", Action: list("logs:CreateLogStream", "logs:PutLogEvents"), Resource: list("arn:log-" + each + ":*")}
	}
	for _, tc := range []struct {
		name, each string
		want       []statement
	}{
		{"server", "", []statement{
			{Sid: "Archive", Effect: "Allow", Action: list("s3:GetObject"), Resource: list("arn:release/server.tar.gz")},
			{Sid: "Kept", Effect: "Allow", Action: list("ssm:GetParameter", "ssm:PutParameter"), Resource: list(
				"arn:parameter/bradawl/cert.pem", "arn:parameter/bradawl/key.pem", "arn:parameter/bradawl/token.key", "arn:parameter/bradawl/url")},
			{Sid: "SessionManager", Effect: "Allow", Resource: list("*"), Action: list("ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel",
				"ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel")},
		}},
		{"logs", "probe", []statement{logs("probe")}},
		{"logs", "worker", []statement{logs("worker")}},
		{"worker", "", []statement{
			{Sid: "Objects", Effect: "Allow", Action: list("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"), Resource: list("arn:exchange/*")},
			{Sid: "Bucket", Effect: "Allow", Action: list("s3:ListBucket"), Resource: list("arn:exchange")},
		}},
	} {
		at := ctx.NewChild()
		at.Variables = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(tc.each)})}
		got := policy(t, m.text(m.resource("aws_iam_role_policy", tc.name), "policy", at))
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s %s may\n%+v, want\n%+v", tc.name, tc.each, got, tc.want)
		}
	}
	if n := len(m.all("resource", "aws_iam_role_policy")); n != 3 {
		t.Errorf("%d policies, 3 looked at", n)
	}
	for _, kind := range []string{"aws_iam_role_policy_attachment", "aws_iam_policy", "aws_iam_user", "aws_iam_policy_attachment"} {
		if found := m.all("resource", kind); len(found) > 0 {
			t.Errorf("there is a %s, which this test does not look at", kind)
		}
	}
	for name, service := range map[string]string{"server": "ec2.amazonaws.com", "function": "lambda.amazonaws.com"} {
		got := policy(t, m.text(m.resource("aws_iam_role", name), "assume_role_policy", ctx))
		want := []statement{{Effect: "Allow", Action: "sts:AssumeRole", Principal: map[string]any{"Service": service}}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("role %s is for %+v", name, got)
		}
	}
}

func TestFunctionsStandOutsideAnyVPCAndKeepNoSecrets(t *testing.T) {
	t.Parallel()
	m, ctx := planned(t, emptyRelease(t))
	f := m.resource("aws_lambda_function", "this")
	each := m.value(f, "for_each", ctx).AsValueMap()
	if names := slices.Sorted(maps.Keys(each)); !slices.Equal(names, []string{"probe", "worker"}) {
		t.Fatalf("functions %q", names)
	}
	for _, b := range f.Blocks {
		t.Errorf("a function has the block %s: a vpc_config makes mappings symmetric, an environment would hold a secret", b.Type)
	}
	for name, value := range each {
		at := ctx.NewChild()
		at.Variables = map[string]cty.Value{
			"each":         cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(name), "value": value}),
			"aws_iam_role": cty.ObjectVal(map[string]cty.Value{"function": cty.ObjectVal(map[string]cty.Value{name: cty.ObjectVal(map[string]cty.Value{"arn": cty.StringVal("arn:role")})})}),
		}
		for attr, want := range map[string]string{
			"runtime": "provided.al2023", "handler": "bootstrap", "timeout": "300", "reserved_concurrent_executions": "-1", "function_name": "bradawl-" + name,
		} {
			if got := m.text(f, attr, at); got != want {
				t.Errorf("%s: %s is %s, want %s", name, attr, got, want)
			}
		}
		if got := m.text(f, "filename", at); filepath.Base(got) != "bradawl-"+name+"_"+testVersion+"_lambda_arm64.zip" {
			t.Errorf("%s is from %s", name, got)
		}
	}
	// Values of secrets never come into Terraform's state.
	p := m.resource("aws_ssm_parameter", "kept")
	if kind, value, wo := m.text(p, "type", ctx), p.Attributes["value"], m.text(p, "value_wo", ctx); kind != "SecureString" || value != nil || wo != "unset" {
		t.Errorf("the kept parameters are %s, %v, %s", kind, value, wo)
	}
}

func TestOutputsAreCommandsWithoutSecretsInArguments(t *testing.T) {
	t.Parallel()
	m, ctx := planned(t, emptyRelease(t))
	for name, want := range map[string]string{
		"address":          publicIP + ":3478",
		"exchange_bucket":  "b-exchange",
		"worker_function":  "bradawl-worker",
		"url_command":      "(umask 077; aws ssm get-parameter --region eu-west-1 --name /bradawl/url --with-decryption --query Parameter.Value --output text >bradawl.url)",
		"netcheck_command": "bradawl netcheck --url-file bradawl.url",
		"probe_command":    "aws ssm get-parameter --region eu-west-1 --name /bradawl/url --with-decryption --query '{url: Parameter.Value}' --output json | aws lambda invoke --region eu-west-1 --function-name bradawl-probe --cli-binary-format raw-in-base64-out --payload file:///dev/stdin probe.json",
		"shell_command":    "aws ssm start-session --region eu-west-1 --target i-1",
	} {
		found := m.all("output", name)
		if len(found) != 1 {
			t.Errorf("%d outputs %s", len(found), name)
			continue
		}
		if got := m.text(found[0].Body, "value", ctx); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	if n := len(m.all("output")); n != 7 {
		t.Errorf("%d outputs, 7 looked at", n)
	}
}
