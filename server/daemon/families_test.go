package daemon

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

func TestPeersLearnThePublicAddressOfEachFamily(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")}
	inside := []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")}
	for name, tc := range map[string]struct {
		s      settings
		listen string
		own    []netip.Addr
		want   string
	}{
		"both, found":               {settings{}, "[::]:3478", own, "[203.0.113.7:3478 [2001:db8::7]:3478]"},
		"private ones are not told": {settings{}, "[::]:3478", inside, "[]"},
		"behind a 1:1 NAT":          {settings{PublicAddr: "198.51.100.9:4000"}, "[::]:3478", append(inside[:1:1], own[1]), "[198.51.100.9:4000 [2001:db8::7]:3478]"},
		"a name says nothing":       {settings{PublicAddr: "rendezvous.example.org:3478"}, "[::]:3478", inside, "[]"},
		"said":                      {settings{PublicIPv4: "198.51.100.9:1", PublicIPv6: "[2001:db8::9]:2"}, "[::]:3478", own, "[198.51.100.9:1 [2001:db8::9]:2]"},
		"off":                       {settings{PublicIPv4: "off"}, "[::]:3478", own, "[[2001:db8::7]:3478]"},
		"an IPv4 socket":            {settings{}, "0.0.0.0:3478", own, "[203.0.113.7:3478]"},
		"one IPv6 address":          {settings{}, "[2001:db8::5]:3478", own, "[[2001:db8::5]:3478]"},
		"loopback":                  {settings{}, "127.0.0.1:3478", own, "[]"},
	} {
		if got := fmt.Sprint(publicAddrs(tc.s, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(tc.listen)), tc.own)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestAddressesOfTheWrongFamilyAreRefused(t *testing.T) {
	for _, s := range []settings{{PublicIPv4: "[2001:db8::9]:2"}, {PublicIPv6: "198.51.100.9:1"}, {PublicIPv4: "198.51.100.9"}, {PublicIPv6: "[::]:1"}, {PublicIPv4: "198.51.100.9:0"}} {
		if s.checkFamilies() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	ok := settings{PublicIPv4: off, PublicIPv6: "[2001:db8::9]:2"}
	if err := ok.checkFamilies(); err != nil {
		t.Error(err)
	}
}
