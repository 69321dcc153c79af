package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
)

// handshakeLimit ends QUIC handshakes with peers that get nowhere.
// It is for busy machines; an attempt ends earlier.
const handshakeLimit = 10 * time.Second

var (
	errStranger = errors.New("no session expects a connection from this address")
	errNoSNI    = errors.New("no such session")
)

// resolve looks the server up: the first address of each family that the socket has.
func resolve(ctx context.Context, cfg settings, v4, v6 bool) (endpoints, error) {
	host, port, err := net.SplitHostPort(cfg.url.Host)
	if err != nil {
		return endpoints{}, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return endpoints{}, err
	}
	addrs, err := cfg.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return endpoints{}, err
	}
	var out endpoints
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.Is4() && v4 && !out.v4.IsValid():
			out.v4 = netip.AddrPortFrom(a, uint16(n))
		case a.Is6() && v6 && !out.v6.IsValid():
			out.v6 = netip.AddrPortFrom(a, uint16(n))
		}
	}
	if !out.v4.IsValid() && !out.v6.IsValid() {
		return out, fmt.Errorf("%s has no address of the socket's family", host)
	}
	return out, nil
}

// openSocket returns cfg's socket or a new one for all families that the system has.
func openSocket(cfg settings) (net.PacketConn, error) {
	if cfg.PacketConn != nil {
		return cfg.PacketConn, nil
	}
	return net.ListenUDP("udp", nil)
}

// boundTo returns the address of the socket; its IP is often unspecified.
func boundTo(pc net.PacketConn) netip.AddrPort {
	return addrPort(pc.LocalAddr())
}

func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// hostAddrs returns the addresses under which hosts of the same network reach the socket.
func hostAddrs(cfg settings, bound netip.AddrPort) []netip.AddrPort {
	ips := cfg.HostAddrs
	if ips == nil {
		if !bound.Addr().IsUnspecified() {
			ips = []netip.Addr{bound.Addr()}
		} else {
			ips = interfaceAddrs(families(bound))
		}
	}
	var out []netip.AddrPort
	for _, ip := range ips {
		if len(out) < protocol.MaxHostCandidates {
			out = append(out, netip.AddrPortFrom(ip.Unmap().WithZone(""), bound.Port()))
		}
	}
	return out
}

// interfaceAddrs lists addresses that another host could use, IPv4 first.
func interfaceAddrs(v4, v6 bool) (out []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); !ok || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.Is4() && !v4 || ip.Is6() && !v6 {
			continue
		}
		out = append(out, ip)
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return out
}

// peerQUICConfig is the configuration of links between peers.
func peerQUICConfig(cfg settings) *quic.Config {
	return &quic.Config{
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           handshakeLimit,
		MaxIdleTimeout:                 cfg.KeepAlive * 5 / 2,
		KeepAlivePeriod:                cfg.KeepAlive,
		InitialStreamReceiveWindow:     min(1<<20, cfg.MaxStreamWindow),
		MaxStreamReceiveWindow:         cfg.MaxStreamWindow,
		InitialConnectionReceiveWindow: min(2<<20, cfg.MaxConnWindow),
		MaxConnectionReceiveWindow:     cfg.MaxConnWindow,
		MaxIncomingStreams:             cfg.MaxStreams,
		MaxIncomingUniStreams:          cfg.MaxStreams,
		EnableDatagrams:                true,
	}
}

// transportOn starts a transport on a socket, and its one listener for peers.
func (c *Client) transportOn(pc net.PacketConn) (*quic.Transport, *quic.EarlyListener, error) {
	conn := receiveCoalesced(pc)
	t := &quic.Transport{
		Conn:                             conn,
		ConnectionIDLength:               8,
		DisableVersionNegotiationPackets: true, // strangers get nothing to reflect
		ConnContext:                      c.admit,
	}
	config := c.peerQUIC.Clone()
	config.GetConfigForClient = func(info *quic.ClientInfo) (*quic.Config, error) { return c.peerConfigFor(info.RemoteAddr), nil }
	if d, ok := conn.(diverter); ok {
		d.divert(func(b []byte, from net.Addr) { c.packet(time.Now(), b, addrPort(from), t) })
	}
	l, err := t.ListenEarly(&tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{protocol.ALPNPeer},
		GetConfigForClient: c.peerTLS,
	}, config)
	return t, l, err
}

// arrival is the context value of a connection that came in: the attempt that
// it named. (Its TLS state cannot be asked for the name: until the handshake
// is complete that call blocks.)
type arrival struct{ attempt atomic.Pointer[attempt] }

type arrivalKey struct{}

// admit refuses Initials from addresses that no session expects, before any state is made for them.
func (c *Client) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	if !c.sessions.expects(addrPort(info.RemoteAddr)) {
		return nil, errStranger
	}
	return context.WithValue(ctx, arrivalKey{}, new(arrival)), nil
}

// peerTLS finds the session that a dialler names and returns the configuration that pins its key.
func (c *Client) peerTLS(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	a := c.sessions.byServerName(hello.ServerName)
	if a == nil || !a.admitHandshake() {
		return nil, errNoSNI
	}
	if came, ok := hello.Context().Value(arrivalKey{}).(*arrival); ok {
		came.attempt.Store(a)
	}
	return a.listenTLS, nil
}

// acceptPeers takes in the connections that peers dial, in their first flight.
func (c *Client) acceptPeers(ctx context.Context, l *quic.EarlyListener) {
	for {
		qc, err := l.Accept(ctx)
		if err != nil {
			return
		}
		came, ok := qc.Context().Value(arrivalKey{}).(*arrival)
		if !ok || came.attempt.Load() == nil {
			c.wg.Go(func() { _ = qc.CloseWithError(CodeUnwanted, "") })
			continue
		}
		c.wg.Go(func() { came.attempt.Load().serve(qc) })
	}
}
