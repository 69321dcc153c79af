package main

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/stun/v4"
	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"

	"github.com/bradawl/bradawl/internal/natlab"
)

// rawICE connects by pion/ice and sends a byte over the path that it found, in
// the clear: the handshake that encryption would need comes on top. In its
// favour, gathering is done before the call when it is tuned, and signalling
// by default costs no time at all. Tuned it takes what ours takes: each agent gets the
// other's candidates when an order of the rendezvous would be there.
type rawICE struct {
	w     *world
	tuned bool
}

func newDefaultICE(w *world) (contestant, error) { return &rawICE{w, false}, nil }
func newTunedICE(w *world) (contestant, error)   { return &rawICE{w, true}, nil }

func (i *rawICE) name() string {
	if i.tuned {
		return "pion/ice tuned"
	}
	return "pion/ice default"
}

// hostNet is the network of a host in the lab.
type hostNet struct {
	*stdnet.Net
	host *natlab.Host
}

func newHostNet(h *natlab.Host) (*hostNet, error) {
	n := &hostNet{host: h}
	err := h.Do(func() (err error) {
		n.Net, err = stdnet.NewNet()
		return err
	})
	return n, err
}

// ListenPacket opens a socket in the host.
func (n *hostNet) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.host.Do(func() error {
		c, err = n.Net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// ListenUDP opens a socket in the host.
func (n *hostNet) ListenUDP(network string, at *net.UDPAddr) (c transport.UDPConn, err error) {
	err = n.host.Do(func() error {
		c, err = n.Net.ListenUDP(network, at)
		return err
	})
	return c, err
}

// tunedCheck is the pace of the tuned agent's checks; the default is 200 ms.
const tunedCheck = 2 * time.Millisecond

func (i *rawICE) agent(h *natlab.Host) (*ice.Agent, error) {
	n, err := newHostNet(h)
	if err != nil {
		return nil, err
	}
	opts := []ice.AgentOption{
		ice.WithNet(n),
		ice.WithNetworkTypes([]ice.NetworkType{ice.NetworkTypeUDP4}),
		ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled),
		ice.WithUrls([]*stun.URI{{Scheme: stun.SchemeTypeSTUN, Host: i.w.server.Addr().String(), Port: int(i.w.server.Port()), Proto: stun.ProtoTypeUDP}}),
	}
	if i.tuned {
		opts = append(opts,
			ice.WithHostAcceptanceMinWait(0), ice.WithSrflxAcceptanceMinWait(0), ice.WithPrflxAcceptanceMinWait(0),
			ice.WithCheckInterval(tunedCheck), ice.WithMaxBindingRequests(2000),
			ice.WithCandidateTypes([]ice.CandidateType{ice.CandidateTypeServerReflexive}),
		)
	}
	return ice.NewAgentWithOptions(opts...)
}

// gather starts gathering. Each candidate goes to found; done is closed when there are no more.
func gather(a *ice.Agent, found func(ice.Candidate)) (done chan struct{}, err error) {
	done = make(chan struct{})
	if err := a.OnCandidate(func(c ice.Candidate) {
		if c == nil {
			close(done)
			return
		}
		found(c)
	}); err != nil {
		return nil, err
	}
	return done, a.GatherCandidates()
}

// give is signalling: it hands a copy of a candidate to the other agent.
func give(to *ice.Agent, c ice.Candidate) {
	if copied, err := ice.UnmarshalCandidate(c.Marshal()); err == nil {
		_ = to.AddRemoteCandidate(copied)
	}
}

func (i *rawICE) attempt(ctx context.Context, start func()) (sample, error) {
	if !i.tuned {
		start()
	}
	began := time.Now()
	a, err := i.agent(i.w.a)
	if err != nil {
		return sample{}, err
	}
	defer a.Close()
	b, err := i.agent(i.w.b)
	if err != nil {
		return sample{}, err
	}
	defer b.Close()
	delayA, delayB := time.Duration(0), time.Duration(0)
	if i.tuned {
		var mu sync.Mutex
		var fromA, fromB []ice.Candidate
		doneA, err := gather(a, func(c ice.Candidate) { mu.Lock(); fromA = append(fromA, c); mu.Unlock() })
		if err != nil {
			return sample{}, err
		}
		doneB, err := gather(b, func(c ice.Candidate) { mu.Lock(); fromB = append(fromB, c); mu.Unlock() })
		if err != nil {
			return sample{}, err
		}
		for _, done := range []chan struct{}{doneA, doneB} {
			select {
			case <-done:
			case <-ctx.Done():
				return sample{}, ctx.Err()
			}
		}
		mu.Lock()
		for _, c := range fromA {
			give(b, c)
		}
		for _, c := range fromB {
			give(a, c)
		}
		mu.Unlock()
		delayA, delayB = i.w.serverRTT(), i.w.orderToB()
		time.Sleep(settle)
		start()
		began = time.Now()
	} else {
		if _, err := gather(a, func(c ice.Candidate) { give(b, c) }); err != nil {
			return sample{}, err
		}
		if _, err := gather(b, func(c ice.Candidate) { give(a, c) }); err != nil {
			return sample{}, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var answering sync.WaitGroup
	defer answering.Wait()
	defer cancel()
	userA, passA, err := a.GetLocalUserCredentials()
	if err != nil {
		return sample{}, err
	}
	userB, passB, err := b.GetLocalUserCredentials()
	if err != nil {
		return sample{}, err
	}
	answering.Go(func() {
		waitUntil(began.Add(delayB))
		conn, err := b.Accept(ctx, userA, passA)
		if err == nil {
			echoPackets(ctx, conn)
		}
	})
	waitUntil(began.Add(delayA))
	conn, err := a.Dial(ctx, userB, passB)
	if err != nil {
		return sample{}, err
	}
	if err := i.echoPacket(ctx, conn); err != nil {
		return sample{}, err
	}
	return sample{echo: time.Since(began)}, nil
}

// waitUntil sleeps as precisely as the kernel can.
func waitUntil(t time.Time) {
	if d := time.Until(t); d > time.Millisecond {
		time.Sleep(d - time.Millisecond)
	}
	for d := time.Until(t); d > 0; d = time.Until(t) {
		sleepInKernel(d)
	}
}

// echoPackets sends packets back until ctx ends.
func echoPackets(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	buf := make([]byte, 64)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// echoPacket sends a byte until it comes back: a path of ICE loses packets.
func (i *rawICE) echoPacket(ctx context.Context, c net.Conn) error {
	back := make(chan error, 1)
	go func() { // ends with the agent
		_, err := c.Read(make([]byte, 64))
		back <- err
	}()
	again := time.NewTicker(max(2*tunedCheck, 3*(i.w.A+i.w.B)))
	defer again.Stop()
	for {
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
		select {
		case err := <-back:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

func (i *rawICE) close() error { return nil }
