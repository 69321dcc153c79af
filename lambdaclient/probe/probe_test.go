package probe_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/lambdalab"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/lambdaclient"
	"github.com/bradawl/bradawl/lambdaclient/probe"
	"github.com/bradawl/bradawl/server/rendezvous"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

// TestMain runs the function when this program is started as an execution environment.
func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		lambdaclient.Start(new(probe.Prober).Handle)
	}
	natlab.Main(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cloud is the function as Lambda runs it, behind a NAT, and a rendezvous with a second address.
type cloud struct {
	t          *testing.T
	rendezvous *rendezvoustest.Server
	service    *lambdalab.Service
	sdk        *lambda.Client
}

func newCloud(t *testing.T, nat natlab.NAT) *cloud {
	t.Helper()
	natlab.Require(t)
	lab, err := natlab.New(natlab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	one, err := lab.AddHost("rendezvous")
	must(t, err)
	two, err := lab.AddHost("rendezvous 2")
	must(t, err)
	c := &cloud{t: t, rendezvous: rendezvoustest.Start(t, one, func(cfg *rendezvous.Config) {
		pc, err := two.ListenUDP(netip.AddrPort{})
		must(t, err)
		cfg.OtherPacketConn = pc
	})}
	c.service, err = lambdalab.New(lambdalab.Config{Network: lambdalab.NAT(lab, nat, natlab.Link{MTU: 1480})})
	must(t, err)
	t.Cleanup(func() { must(t, c.service.Close()) })
	self, err := os.Executable()
	must(t, err)
	must(t, c.service.CreateFunction(lambdalab.Function{Name: "probe", Command: []string{self}, Timeout: 20 * time.Second, MemoryMB: 512,
		Env: map[string]string{probe.URLVariable: c.rendezvous.URL()}}))
	c.sdk = lambda.NewFromConfig(c.service.AWSConfig())
	return c
}

func (c *cloud) invoke(payload string) probe.Result {
	c.t.Helper()
	out, err := c.sdk.Invoke(c.t.Context(), &lambda.InvokeInput{FunctionName: aws.String("probe"), Payload: []byte(payload)})
	must(c.t, err)
	if out.FunctionError != nil {
		c.t.Fatalf("%s", out.Payload)
	}
	var r probe.Result
	must(c.t, json.Unmarshal(out.Payload, &r))
	return r
}

func TestFunctionTellsWhatIsAroundIt(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		nat       natlab.NAT
		mapping   client.Mapping
		filtering client.Filtering
		hairpins  client.Verdict
	}{
		{natlab.PortRestricted(), client.MappingEndpointIndependent, client.FilteringAddressAndPortDependent, client.VerdictNo},
		{natlab.NAT{Filtering: natlab.EndpointIndependentFiltering, DropUnsolicited: true, Hairpinning: true},
			client.MappingEndpointIndependent, client.FilteringEndpointIndependent, client.VerdictYes},
		{natlab.Symmetric(), client.MappingAddressAndPortDependent, client.FilteringAddressAndPortDependent, client.VerdictNo},
	} {
		t.Run(tc.nat.String(), func(t *testing.T) {
			c := newCloud(t, tc.nat)
			r := c.invoke(`{}`)
			if r.Mapping != tc.mapping || r.Filtering != tc.filtering || r.Hairpinning != tc.hairpins || r.PathMTU != 1480 || !r.SecondAddress {
				t.Errorf("%+v", r)
			}
			if r.IPv4 == "" || r.IPv6 != "" {
				t.Errorf("seen at %q and %q, want IPv4 alone", r.IPv4, r.IPv6)
			}
			if r.Invocation != 1 || r.AddressKept != nil || r.MappingKept != nil || r.Frozen != 0 || len(r.Untested) != 1 {
				t.Errorf("the first invocation: %+v", r)
			}
		})
	}
}

func TestFunctionComparesItsAddressWithThatBeforeTheFreeze(t *testing.T) {
	t.Parallel()
	c := newCloud(t, natlab.PortRestricted())
	first := c.invoke(`{"tests": ["filtering"]}`)
	_, err := c.service.Await(t.Context(), func(all []lambdalab.Environment) bool { return len(all) == 1 && all[0].State == lambdalab.Idle })
	must(t, err)
	again := c.invoke(`{"tests": ["mapping"]}`)
	if again.Environment != first.Environment || again.Invocation != 2 || again.PublicBefore != first.Public || again.Frozen <= 0 ||
		again.AddressKept == nil || !*again.AddressKept || again.MappingKept == nil || !*again.MappingKept {
		t.Errorf("first %+v\nagain %+v", first, again)
	}
	if again.PathMTU != 0 || len(again.Untested) != 4 {
		t.Errorf("tests ran that were not asked for: %+v", again)
	}
}

func TestFunctionNoticesThatItsMappingWasLostInTheFreeze(t *testing.T) {
	t.Parallel()
	c := newCloud(t, natlab.NAT{Ports: natlab.RandomPorts, DropUnsolicited: true})
	first := c.invoke(`{"tests": ["mapping"]}`)
	all, err := c.service.Await(t.Context(), func(all []lambdalab.Environment) bool { return len(all) == 1 && all[0].State == lambdalab.Idle })
	must(t, err)
	must(t, all[0].Place.(*lambdalab.NATPlace).Site().FlushMappings())
	again := c.invoke(`{"tests": ["mapping"]}`)
	if again.Environment != first.Environment || again.AddressKept == nil || !*again.AddressKept || again.MappingKept == nil || *again.MappingKept {
		t.Errorf("first %+v\nagain %+v", first, again)
	}
}

func TestFunctionMeasuresTheLifetimeWithinItsTime(t *testing.T) {
	t.Parallel()
	nat := natlab.PortRestricted()
	nat.MappingTimeout = 2 * time.Second
	c := newCloud(t, nat)
	r := c.invoke(`{"tests": ["mapping lifetime"], "lifetime_s": -1}`)
	if r.AtLeast < 0.5 || r.Below > 3.5 || r.AtLeast >= r.Below || r.Seconds > 19 {
		t.Errorf("%+v", r)
	}
}

func TestFunctionSaysThatUDPIsBlocked(t *testing.T) {
	t.Parallel()
	c := newCloud(t, natlab.UDPBlocked())
	if r := c.invoke(`{}`); !r.UDPBlocked || r.Public != "" || len(r.Untested) != len(client.Tests()) {
		t.Errorf("%+v", r)
	}
}
