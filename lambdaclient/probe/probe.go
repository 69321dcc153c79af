package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/lambdaclient"
)

// URLVariable is the environment variable with the connection string, for requests that have none.
const URLVariable = "BRADAWL_URL"

// Request is the payload of an invocation. The zero value runs everything that takes a few seconds.
type Request struct {
	// URL is the connection string of the rendezvous. Empty: that of [URLVariable]. It contains a token: prefer the variable.
	URL string `json:"url,omitempty"`
	// Group and Name are those to sign in with. Empty: "probe" and a random name, the same for the life of the environment.
	Group string `json:"group,omitempty"`
	Name  string `json:"name,omitempty"`
	// Tests are those to run, by the names of [client.Tests]. Empty: all.
	Tests []client.Test `json:"tests,omitempty"`
	// LifetimeSeconds is how long to look for the lifetime of an idle mapping. 0: not at all. Negative: as long as the
	// function's timeout leaves. Never more than that.
	LifetimeSeconds float64 `json:"lifetime_s,omitempty"`
}

// Result is what an invocation returns.
type Result struct {
	// Environment tells execution environments apart; Invocation counts those of this one, from 1.
	Environment string `json:"environment"`
	Invocation  int    `json:"invocation"`
	// Frozen is the time in seconds since the last invocation of this environment ended; 0 in the first.
	Frozen float64 `json:"frozen_s"`
	// Public is the address and port from which the server sees the socket now. PublicBefore is that of the last invocation.
	Public       string `json:"public"`
	PublicBefore string `json:"public_before,omitempty"`
	// IPv4 and IPv6 are what the server sees in each family; empty: Says tells why it sees none.
	IPv4 string `json:"ipv4,omitempty"`
	IPv6 string `json:"ipv6,omitempty"`
	// AddressKept and MappingKept tell whether the address, and address and port, are those of the last invocation;
	// absent in the first.
	AddressKept *bool `json:"address_kept,omitempty"`
	MappingKept *bool `json:"mapping_kept,omitempty"`
	// SocketKept tells whether the socket is the last invocation's. If not, because the sign-in was lost, MappingKept says
	// nothing of the NAT.
	SocketKept bool `json:"socket_kept"`

	Mapping       client.Mapping   `json:"mapping"`
	Filtering     client.Filtering `json:"filtering"`
	PortPreserved bool             `json:"port_preserved"`
	Hairpinning   client.Verdict   `json:"hairpinning"`
	PathMTU       int              `json:"path_mtu,omitempty"`
	AtLeast       float64          `json:"mapping_lifetime_at_least_s,omitempty"`
	Below         float64          `json:"mapping_lifetime_below_s,omitempty"`
	SecondAddress bool             `json:"server_has_second_address"`
	ControlRTT    float64          `json:"control_rtt_ms"`
	UDPBlocked    bool             `json:"udp_blocked"`
	Untested      []Untested       `json:"untested,omitempty"`
	// Says is the result in plain words.
	Says []string `json:"says"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
}

// Untested is a test without a result.
type Untested struct {
	Test client.Test `json:"test"`
	Why  string      `json:"why"`
}

// margin is what of the function's time is kept for everything beside the lifetime test.
const margin = 3 * time.Second

// Prober holds what an environment remembers from invocation to invocation. The zero value is ready; it serves one
// invocation at a time, as Lambda does.
type Prober struct {
	mu     sync.Mutex
	name   string
	client *client.Client // of the last invocation; not to be used
	public string
	ended  time.Time
}

// Handle serves an invocation; give it to [lambdaclient.Start].
func (p *Prober) Handle(ctx context.Context, s *lambdaclient.Session, in Request) (Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	began := time.Now()
	if p.name == "" {
		p.name = randomName()
	}
	out := Result{Environment: p.name, Invocation: s.Invocations()}
	if !p.ended.IsZero() {
		out.Frozen = began.Round(0).Sub(p.ended.Round(0)).Seconds() // the wall clock: the other one may stand still in a freeze
	}
	before := p.client
	r, err := p.look(ctx, s, in)
	if err != nil {
		var blocked bool
		if r, blocked = client.BlockedReport(err); !blocked {
			return Result{}, err
		}
	}
	out.take(r)
	public := r.MainMapped // what the sign-in observed may be from before the freeze
	if !public.IsValid() {
		public = r.Observed
	}
	if public.IsValid() {
		out.Public = public.String()
		out.SocketKept = before != nil && before == p.client
		if out.PublicBefore = p.public; p.public != "" {
			mapping := p.public == out.Public
			address := host(p.public) == host(out.Public)
			out.MappingKept, out.AddressKept = &mapping, &address
		}
		p.public = out.Public
	}
	p.ended = time.Now()
	out.Seconds = p.ended.Sub(began).Seconds()
	return out, nil
}

// look signs in, or goes on where the last invocation ended, and runs the tests.
func (p *Prober) look(ctx context.Context, s *lambdaclient.Session, in Request) (client.NetReport, error) {
	cfg := client.Config{URL: in.URL, Group: in.Group, Name: in.Name, Agent: "bradawl-probe"}
	for _, f := range []struct {
		to    *string
		other string
	}{{&cfg.URL, os.Getenv(URLVariable)}, {&cfg.Group, "probe"}, {&cfg.Name, p.name}} {
		if *f.to == "" {
			*f.to = f.other
		}
	}
	c, err := s.SignIn(ctx, cfg)
	if err != nil {
		return client.NetReport{}, err
	}
	p.client = c
	opts := client.DiscoverOptions{LifetimeBudget: lifetimeBudget(ctx, in.LifetimeSeconds)}
	if len(in.Tests) > 0 {
		opts.Tests = in.Tests
	}
	return c.Discover(ctx, opts)
}

// lifetimeBudget is what was asked for, within what the invocation's deadline leaves.
func lifetimeBudget(ctx context.Context, seconds float64) time.Duration {
	if seconds == 0 {
		return 0
	}
	asked := time.Duration(seconds * float64(time.Second))
	deadline, ok := ctx.Deadline()
	if !ok {
		return max(asked, 0)
	}
	left := max(time.Until(deadline)-margin, 0)
	if seconds < 0 {
		return left
	}
	return min(asked, left)
}

func (r *Result) take(n client.NetReport) {
	r.Mapping, r.Filtering, r.PortPreserved, r.Hairpinning = n.Mapping, n.Filtering, n.PortPreserved, n.Hairpinning
	r.PathMTU, r.SecondAddress, r.UDPBlocked, r.Says = n.PathMTU, n.SecondAddress, n.UDPBlocked, n.Explain()
	r.AtLeast, r.Below = n.Lifetime.AtLeast.Seconds(), n.Lifetime.Below.Seconds()
	for to, a := range map[*string]netip.AddrPort{&r.IPv4: n.IPv4, &r.IPv6: n.IPv6} {
		if a.IsValid() {
			*to = a.String()
		}
	}
	r.ControlRTT = float64(n.ControlRTT) / float64(time.Millisecond)
	for _, u := range n.Untested {
		r.Untested = append(r.Untested, Untested{u.Test, u.Why})
	}
}

func host(addr string) string {
	h, _, _ := net.SplitHostPort(addr) // made by us
	return h
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // does not fail
	return fmt.Sprintf("probe-%s", hex.EncodeToString(b[:]))
}
