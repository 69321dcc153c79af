package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

const (
	// controlIdle ends a control connection on which nothing comes in; clock pings go out more often.
	controlIdle = 10 * time.Second
	// controlWrite bounds how long the server may take to make room for a message.
	controlWrite = 5 * time.Second
	// leaveLimit bounds the wait for the server's goodbye.
	leaveLimit = 200 * time.Millisecond
)

// control is one signed-in connection to the rendezvous.
type control struct {
	c      *Client
	server netip.AddrPort
	other  netip.AddrPort // the server in the other family; invalid: it is not known there, or we are not
	qc     *quic.Conn
	stream *quic.Stream
	reader *bufio.Reader
	hello  *pb.SignedIn
	lost   chan struct{} // closed when the reader has ended
	drain  chan time.Duration

	wmu sync.Mutex

	pings pings
}

// signIn dials the server and signs in. The connection is not in use before adopt.
func (c *Client) signIn(ctx context.Context, to endpoints, limit time.Duration) (*control, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	qc, server, err := c.dialAny(ctx, to)
	if err != nil {
		return nil, err
	}
	ctl := &control{c: c, server: server, qc: qc, lost: make(chan struct{}), drain: make(chan time.Duration, 1)}
	if err := ctl.introduce(ctx); err != nil {
		_ = qc.CloseWithError(0, "")
		return nil, err
	}
	if !c.oneFamily() {
		ctl.other = ctl.otherAddress(to)
	}
	return ctl, nil
}

var errNoAnswer = errors.New("no answer in time")

func (c *Client) controlTLS() *tls.Config {
	host, _, err := net.SplitHostPort(c.cfg.url.Host)
	if err != nil {
		host = c.cfg.url.Host
	}
	return identity.DialConfig(c.identity, host, protocol.ALPNControl, c.cfg.url.Pins...)
}

func controlQUIC() *quic.Config {
	return &quic.Config{
		Versions:             []quic.Version{quic.Version1},
		HandshakeIdleTimeout: time.Minute, // the context is what limits it
		MaxIdleTimeout:       controlIdle,
		KeepAlivePeriod:      controlIdle / 3,
		EnableDatagrams:      true,
		// As at the server: messages are small, and probes would only stand in the way of the first connects.
		DisablePathMTUDiscovery: true,
		InitialPacketSize:       protocol.MinPathPacket,
		// A server opens no streams.
		MaxIncomingStreams:    -1,
		MaxIncomingUniStreams: -1,
	}
}

// dialServer makes the QUIC handshake and finds out why if there is none.
func (c *Client) dialServer(ctx context.Context, server netip.AddrPort) (*quic.Conn, error) {
	dctx, cancel := context.WithCancelCause(ctx)
	var probe sync.WaitGroup
	defer probe.Wait()
	defer cancel(nil)
	probe.Go(func() { c.findBlockage(dctx, server, cancel) })
	qc, err := c.transport.Dial(dctx, udpAddr(server), c.controlTLS(), controlQUIC())
	if err == nil {
		return qc, nil
	}
	e := &Error{Op: "sign in", Reason: protocol.ReasonServerUnreachable, Err: err,
		Detail: "no answer from " + c.cfg.url.Host}
	switch {
	case errors.Is(context.Cause(dctx), errUDPBlocked):
		e.Reason, e.Err = protocol.ReasonUDPBlocked, errUDPBlocked
		e.Detail = "allow UDP to " + c.cfg.url.Host
	case errors.Is(context.Cause(ctx), errNoAnswer):
		e.Err = nil
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Err = context.Cause(ctx)
	case ctx.Err() != nil:
		e.Reason, e.Err, e.Detail = protocol.ReasonCanceled, context.Cause(ctx), ""
	case quicReason(err) == protocol.ReasonIdentityMismatch:
		e.Reason, e.Detail = protocol.ReasonIdentityMismatch, c.cfg.url.Host+" is not the server that the connection string's pin names"
		if len(c.cfg.url.Pins) == 0 {
			e.Detail = "the certificate of " + c.cfg.url.Host + " was refused"
		}
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.Reason, e.Err = protocol.ReasonIdentityMismatch, cert
		e.Detail = "the certificate of " + c.cfg.url.Host + " was refused; a connection string with pin= needs no public certificate"
	}
	return nil, e
}

// introduce opens the control stream, sends SignIn and reads the answer.
func (ctl *control) introduce(ctx context.Context) error {
	c := ctl.c
	fail := func(err error) error {
		if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errNoAnswer) && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return canceled(ctx, "sign in", "")
		}
		return &Error{Op: "sign in", Reason: protocol.ReasonServerUnreachable, Detail: "the connection to " + c.cfg.url.Host + " broke", Err: err}
	}
	var err error
	if ctl.stream, err = ctl.qc.OpenStream(); err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = ctl.stream.SetDeadline(time.Now()) })
	defer stop()
	in := &pb.SignIn{Token: c.cfg.url.Token, Group: c.cfg.Group, Name: c.cfg.Name, Role: c.cfg.Role, Agent: c.cfg.Agent,
		OneFamily: c.oneFamily()}
	for _, h := range c.hosts {
		in.HostCandidates = append(in.HostCandidates, protocol.AddrToPB(h))
	}
	if err := protocol.WriteMessage(ctl.stream, &pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: in}}); err != nil {
		return fail(err)
	}
	ctl.reader = bufio.NewReader(ctl.stream)
	var m pb.ServerMessage
	if err := protocol.ReadMessage(ctl.reader, &m, protocol.MaxServerMessage); err != nil {
		return fail(err)
	}
	switch b := m.GetBody().(type) {
	case *pb.ServerMessage_SignedIn:
		ctl.hello = b.SignedIn
		return nil
	case *pb.ServerMessage_Refused:
		return &Error{Op: "sign in", Reason: protocol.ReasonFromPB(b.Refused.GetReason()), Detail: b.Refused.GetDetail(), refused: true}
	}
	return fail(fmt.Errorf("the server answered the sign-in with %T", m.GetBody()))
}

// send writes one message. A connection that takes no more is closed; its loss is noticed by the reader.
func (ctl *control) send(m *pb.ClientMessage) {
	ctl.wmu.Lock()
	defer ctl.wmu.Unlock()
	_ = ctl.stream.SetWriteDeadline(time.Now().Add(controlWrite))
	if err := protocol.WriteMessage(ctl.stream, m); err != nil {
		_ = ctl.qc.CloseWithError(0, "messages are not taken")
	}
}

// leave signs out: it ends our side of the stream and waits until the server,
// which has read everything by then, closes the connection.
func (ctl *control) leave() {
	ctl.wmu.Lock()
	_ = ctl.stream.Close()
	ctl.wmu.Unlock()
	wait := time.NewTimer(leaveLimit)
	defer wait.Stop()
	select {
	case <-ctl.lost:
	case <-wait.C:
	}
	ctl.close()
}

func (ctl *control) close() { _ = ctl.qc.CloseWithError(0, "") }

// read serves the control stream until it breaks.
func (ctl *control) read() {
	defer close(ctl.lost)
	for {
		var m pb.ServerMessage
		if err := protocol.ReadMessage(ctl.reader, &m, protocol.MaxServerMessage); err != nil {
			_ = ctl.qc.CloseWithError(0, "")
			return
		}
		switch b := m.GetBody().(type) {
		case *pb.ServerMessage_Order:
			ctl.c.handleOrder(b.Order)
		case *pb.ServerMessage_Failed:
			ctl.c.handleFailed(b.Failed)
		case *pb.ServerMessage_Refused:
			ctl.c.handleRefused(b.Refused)
		case *pb.ServerMessage_Peers:
			ctl.c.handlePeers(b.Peers)
		case *pb.ServerMessage_Fire:
			ctl.c.handleFire(b.Fire)
		case *pb.ServerMessage_Prepare:
			ctl.c.handlePrepare(ctl, b.Prepare)
		case *pb.ServerMessage_Drain:
			select {
			case ctl.drain <- time.Duration(b.Drain.GetReconnectAfterNs()):
			default:
			}
		}
	}
}

// adopt puts a signed-in connection to use: it starts its readers and asks
// again for everything that is still wanted.
func (c *Client) adopt(ctl *control) {
	observed, err := protocol.AddrFromPB(ctl.hello.GetObserved())
	if err != nil {
		observed = netip.AddrPort{}
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		ctl.close()
		close(ctl.lost)
		return
	}
	c.control, c.outSince, c.outErr, c.observed, c.second = ctl, time.Time{}, nil, observed, netip.AddrPort{}
	c.changed.broadcast()
	if w := time.Duration(ctl.hello.GetWindowNs()); w > 0 {
		c.windowed = w
	}
	again := make([]request, 0, len(c.requests))
	for _, r := range c.requests {
		again = append(again, r)
		if ask, ok := r.(*connectRequest); ok {
			ask.session, ask.resent = nil, true
		}
	}
	c.mu.Unlock()
	c.clock.Reset()
	c.emit(Event{Kind: EventSignedIn, Addr: observed})
	c.wg.Go(ctl.read)
	c.wg.Go(ctl.readDatagrams)
	c.wg.Go(ctl.keepTime)
	c.wg.Go(func() { c.discoverNAT(ctl) })
	if ctl.other.IsValid() {
		c.wg.Go(func() { c.keepAddress(ctl) })
	}
	for _, r := range again {
		ctl.send(r.message())
		if g, ok := r.(*Group); ok {
			g.rejoined()
		}
	}
}
