package daemon

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/bradawl/bradawl/protocol/token"
	"github.com/bradawl/bradawl/server/rendezvous"
)

// run is the life of the daemon: open everything, serve until ctx ends, drain.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	log, err := newLogger(stderr, s.LogLevel, s.LogFormat)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	defer zap.RedirectStdLog(log)() // quic-go tells of small socket buffers there
	st, err := openState(s.StateDir)
	if err != nil {
		return err
	}
	socks, err := openSockets(s)
	if err != nil {
		return err
	}
	defer socks.close()
	url, file, err := st.writeURL(publicHost(s.PublicAddr, socks.main.LocalAddr()), s.TokenLifetime)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	engine, err := rendezvous.New(rendezvous.Config{
		PacketConn: socks.main, AltPacketConn: socks.alternate, TCPListener: socks.tcp,
		Addrs:           publicAddrs(s, socks.main.LocalAddr(), ownAddresses()),
		OtherPacketConn: socks.other, OtherAddr: s.otherAddr(),
		Identity: st.id, Verifier: token.NewVerifier(st.key.Public().(ed25519.PublicKey)),
		Window: s.Window, AttemptTimeout: s.Attempt,
		Limits: rendezvous.Limits{
			MaxPeers: s.MaxPeers, MaxGroups: s.MaxGroups, MaxPeersPerGroup: s.MaxPeersPerGroup, MaxSessions: s.MaxSessions,
			MaxPending: s.MaxPending, HandshakesPerSecond: s.HandshakeRate, STUNPerSource: s.STUNRate,
		},
		Registerer: metrics, Logger: log,
	})
	if err != nil {
		return err
	}
	if st.fresh {
		log.Info("made new keys", zap.String("state_dir", st.dir))
	}

	if socks.http != nil {
		log.Info("metrics and health", zap.Stringer("http", socks.http.Addr()))
	}

	// The servers outlive ctx, which only begins the drain.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	eg, serving := errgroup.WithContext(serving)
	eg.Go(func() error {
		defer stop()
		return engine.Serve(serving)
	})
	if socks.http != nil {
		eg.Go(func() error { return serveAdmin(serving, admin(metrics, engine.Ready), socks.http) })
	}
	eg.Go(func() error {
		select {
		case <-serving.Done():
			return nil
		case <-ctx.Done():
		}
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Drain)
		defer cancel()
		if err := engine.Shutdown(drain); errors.Is(err, context.DeadlineExceeded) {
			log.Warn("sessions were still on their way when the drain timeout ended")
		}
		return nil
	})
	if isTerminal(stdout) {
		_, _ = fmt.Fprintf(stdout, "Hand this connection string to peers (BRADAWL_URL); it is also in %s:\n%s\n", file, url.Secret())
	} else {
		_, _ = fmt.Fprintf(stdout, "listening on %s; the connection string is in %s\n", socks.main.LocalAddr(), file)
	}
	return eg.Wait()
}
