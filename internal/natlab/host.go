package natlab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"syscall"
)

// Host is a machine of a lab: a network namespace with one link. Its methods may
// be called from several goroutines at once.
type Host struct {
	lab  *Lab
	site *Site // nil on the core
	name string
	// addr is the IPv4 address; where families has none it is not used, but names the link and gives its number to addr6.
	addr     netip.Addr
	addr6    netip.Addr // invalid: none
	families Families
	link     string     // the far end of its link, in peer; the near end for Self
	peer     *namespace // core or router
	pool     *pool

	mu     sync.RWMutex // held for reading while the namespace is in use
	closed bool
	ns     *namespace
}

// hostLink is the name of a host's own end of its link.
const hostLink = "eth0"

// build makes the namespace and its link to the peer, which routes for it.
func (h *Host) build(gateway, gateway6 netip.Addr) error {
	ns, err := newNamespace(prepare(false))
	if err != nil {
		return err
	}
	near := end{ns: ns, name: hostLink, mac: macFor(h.addr, 0)}
	far := end{ns: h.peer, name: h.link, mac: macFor(h.addr, 1)}
	own, out, in := h.addr, way{via: gateway, mac: far.mac}, way{to: single(h.addr), via: h.addr, mac: near.mac}
	if h.families == IPv6Only {
		own, out, in = netip.Addr{}, way{}, way{}
	}
	err = wire(near, own, out, far, in)
	if err == nil && h.addr6.IsValid() {
		err = wire6(near, h.addr6, []way{{to: default6(), via: gateway6, mac: far.mac}},
			far, []way{{to: single(h.addr6), via: h.addr6, mac: near.mac}})
	}
	if err != nil {
		ns.close()
		return err
	}
	h.ns = ns
	return nil
}

// Name is the name given when the host was added.
func (h *Host) Name() string { return h.name }

// Addr is the host's own IPv4 address, a private one behind a NAT; if it has none, the IPv6 address.
func (h *Host) Addr() netip.Addr {
	if h.families == IPv6Only {
		return h.addr6
	}
	return h.addr
}

// Addr6 is the host's IPv6 address; invalid if it has none.
func (h *Host) Addr6() netip.Addr { return h.addr6 }

// Site is the site that the host is part of, nil for public hosts.
func (h *Host) Site() *Site { return h.site }

// Do runs fn on the calling goroutine, with its OS thread inside the host's network
// namespace. Sockets made there stay in the host afterwards; goroutines started there run
// outside. Calls may be nested.
func (h *Host) Do(fn func() error) error {
	h.mu.RLock()
	if h.closed {
		h.mu.RUnlock()
		return ErrClosed
	}
	ns, err := h.ns.dup()
	h.mu.RUnlock()
	if err != nil {
		return err
	}
	defer ns.close()
	return ns.do(fn)
}

// ListenUDP opens a UDP socket. An invalid address stands for the host's own (see
// Addr), the unspecified IPv6 one for both families, and port 0 for any free port: the zero AddrPort is both.
func (h *Host) ListenUDP(addr netip.AddrPort) (*net.UDPConn, error) {
	if !addr.Addr().IsValid() {
		addr = netip.AddrPortFrom(h.Addr(), addr.Port())
	}
	var conn *net.UDPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return conn, err
}

// Listen opens a stream listener, as net.Listen does. The address must be numeric.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var ln net.Listener
	err := h.Do(func() (err error) {
		var config net.ListenConfig
		config.SetMultipathTCP(false) // nothing here has two paths
		ln, err = config.Listen(context.Background(), network, address)
		return err
	})
	return ln, err
}

// DialContext opens a connection, as net.Dialer's does. The address must be numeric.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.Do(func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Start starts a command inside the host. The process is killed when the lab or the
// host is closed, or when the calling process dies; cmd.Wait stays the caller's. A signal
// in cmd.SysProcAttr.Pdeathsig is kept instead of SIGKILL.
func (h *Host) Start(cmd *exec.Cmd) error {
	var attr syscall.SysProcAttr
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	if attr.Pdeathsig == 0 {
		attr.Pdeathsig = syscall.SIGKILL
	}
	cmd.SysProcAttr = &attr
	return h.lab.spawner.run(func() error { return h.Do(cmd.Start) })
}

// Close kills the host's processes and removes it. Further calls do nothing. Closing Self
// is left to [Lab.Close].
func (h *Host) Close() error {
	if h == h.lab.self {
		return nil
	}
	h.lab.mu.Lock()
	_, open := h.lab.hosts[h]
	open = open && !h.lab.closed
	if open {
		delete(h.lab.hosts, h)
	}
	h.lab.mu.Unlock()
	if !open {
		return nil
	}
	err := killInside(map[string]bool{h.ns.id: true})
	err = errors.Join(err, deleteLink(h.peer, h.link))
	h.shut()
	h.pool.release(h.addr)
	return err
}

// shut lets go of the namespace; the kernel removes it, and its link, in its own time.
func (h *Host) shut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		h.ns.close()
	}
}
