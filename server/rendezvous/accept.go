package rendezvous

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// refusedLinger is how long a refused client has to read why and to close.
const refusedLinger = time.Second

// accept serves control connections until ctx ends, then waits for them.
func (s *Server) accept(ctx context.Context, l *quic.Listener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := l.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		conns.Go(func() { s.serve(ctx, conn) })
	}
}

// serve handles one control connection from its handshake to its end.
func (s *Server) serve(ctx context.Context, conn *quic.Conn) {
	place := slotOf(conn)
	defer place.release()
	ctx, end := context.WithCancelCause(ctx)
	defer func() {
		end(&shutdown{closeBye, "bye"})
		<-conn.Context().Done() // closeOn has closed it
	}()
	closeOn(ctx, conn)

	deadline := time.Now().Add(s.cfg.Limits.SignInTimeout)
	stream, in, err := readSignIn(ctx, conn, deadline)
	log := s.log.With(zap.Stringer("remote", conn.RemoteAddr()))
	if err != nil {
		why := dropMalformed
		if !time.Now().Before(deadline) {
			why = dropNoSignIn
		}
		s.metrics.drops.WithLabelValues(why).Inc()
		log.Debug("no sign-in", zap.Error(err))
		end(&shutdown{closeProtocol, "no sign-in"})
		return
	}
	c := &control{conn: conn, stream: stream.stream, out: newOutbox(s.cfg.Limits.OutboxBytes), clock: s.rules.clock, metrics: s.metrics, end: end, over: ctx.Done()}
	defer c.out.close()
	g, m, err := s.signIn(c, in)
	if err != nil {
		s.refuse(ctx, c, in, err, log)
		return
	}
	place.release()
	s.metrics.signIns.WithLabelValues("success", noReason).Inc()
	log = log.With(zap.String("group", g.name), zap.String("peer", m.name), zap.Uint64("peer_id", m.id))
	log.Info("signed in", zap.String("role", m.role), zap.String("agent", agentOf(in)), zap.String("token", m.tokenID), zap.Duration("rtt", c.roundTrip()))
	c.run(ctx, stream.reader, g, m, s.cfg.Limits)
	s.registry.exit(g, m, time.Now())
	log.Info("signed out", zap.String("why", closeReason(conn)))
}

// controlStream is the control stream with its buffer.
type controlStream struct {
	stream *quic.Stream
	reader *bufio.Reader
}

// readSignIn waits for the control stream and its first message.
func readSignIn(ctx context.Context, conn *quic.Conn, deadline time.Time) (controlStream, *pb.SignIn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return controlStream{}, nil, err
	}
	if err := stream.SetReadDeadline(deadline); err != nil {
		return controlStream{}, nil, err
	}
	r := bufio.NewReaderSize(stream, 4<<10)
	var msg pb.ClientMessage
	if err := protocol.ReadMessage(r, &msg, protocol.MaxSignIn); err != nil {
		return controlStream{}, nil, err
	}
	in := msg.GetSignIn()
	if in == nil {
		return controlStream{}, nil, errors.New("the first message is not a sign-in")
	}
	return controlStream{stream, r}, in, stream.SetReadDeadline(time.Time{})
}

// signIn authorizes a peer and enters it into its group. SignedIn is the first message in its outbox.
func (s *Server) signIn(c *control, in *pb.SignIn) (*group, *member, error) {
	now := time.Now()
	key, err := identity.PeerFingerprint(c.conn.ConnectionState().TLS)
	if err != nil {
		return nil, nil, &refusal{reason: protocol.ReasonUnauthorized, detail: err.Error()}
	}
	claims, err := authorize(s.cfg.Verifier, in, now)
	if err != nil {
		return nil, nil, err
	}
	m := newMember(in, s.nextPeer.Add(1), key, claims.ID)
	m.link = c
	m.observed = addrPortOf(c.conn.RemoteAddr())
	m.oneFamily = in.GetOneFamily()
	m.claimed = in.GetHostCandidates()
	m.claimed = m.claimed[:min(len(m.claimed), protocol.MaxHostCandidates)]
	m.hosts = vetHosts(m.claimed, m.observed)
	c.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_SignedIn{SignedIn: &pb.SignedIn{
		Observed:      protocol.AddrToPB(m.observed),
		ServerTimeNs:  s.rules.clock.now(),
		WindowNs:      int64(s.cfg.Window),
		StunAlternate: s.alternateFor(c.conn),
		PeerId:        m.id,
		StunOther:     s.otherAddress(),

		ServerAddresses: s.ownAddresses(),
	}}})
	g, err := s.registry.enter(in.GetGroup(), m, now)
	return g, m, err
}

// alternateFor names the second STUN port. Only the port is certain: behind a
// 1:1 NAT the server does not know its public address, so clients take that
// of the control connection.
func (s *Server) alternateFor(conn *quic.Conn) *pb.Address {
	if s.cfg.AltPacketConn == nil {
		return nil
	}
	port := addrPortOf(s.cfg.AltPacketConn.LocalAddr()).Port()
	return protocol.AddrToPB(netip.AddrPortFrom(addrPortOf(conn.LocalAddr()).Addr(), port))
}

// otherAddress names the STUN socket on another address.
func (s *Server) otherAddress() *pb.Address {
	if s.cfg.OtherPacketConn == nil {
		return nil
	}
	return protocol.AddrToPB(s.cfg.OtherAddr)
}

// ownAddresses lists where the server is reached.
func (s *Server) ownAddresses() (out []*pb.Address) {
	for _, a := range s.cfg.Addrs {
		out = append(out, protocol.AddrToPB(a))
	}
	return out
}

// refuse tells a client why it may not sign in and lets it close the connection.
func (s *Server) refuse(ctx context.Context, c *control, in *pb.SignIn, err error, log *zap.Logger) {
	r := &refusal{reason: protocol.ReasonUnauthorized, detail: "refused"}
	errors.As(err, &r)
	s.metrics.signIns.WithLabelValues("refused", string(r.reason)).Inc()
	log.Info("sign-in refused", zap.String("reason", string(r.reason)), zap.String("detail", r.detail), zap.String("agent", agentOf(in)))
	if c.stream.SetWriteDeadline(time.Now().Add(refusedLinger)) == nil &&
		protocol.WriteMessage(c.stream, refused(0, r.reason, r.detail, r.retryAfter)) == nil {
		_ = c.stream.Close()
		linger := time.NewTimer(refusedLinger)
		defer linger.Stop()
		select {
		case <-ctx.Done():
		case <-c.conn.Context().Done():
		case <-linger.C:
		}
	}
	c.end(&shutdown{closeRefused, string(r.reason)})
}

// isStreamEnd tells whether a read error is the end of the stream or of the connection rather than a broken message.
func isStreamEnd(err error) bool {
	var stream *quic.StreamError
	var app *quic.ApplicationError
	var idle *quic.IdleTimeoutError
	var reset *quic.StatelessResetError
	var transport *quic.TransportError
	return errors.Is(err, io.EOF) || errors.As(err, &stream) || errors.As(err, &app) || errors.As(err, &idle) ||
		errors.As(err, &reset) || errors.As(err, &transport)
}

// closeReason says in a word or two why a connection ended.
func closeReason(conn *quic.Conn) string {
	if err := context.Cause(conn.Context()); err != nil {
		return err.Error()
	}
	return "closed"
}
