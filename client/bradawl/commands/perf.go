package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/bradawl/bradawl/client"
)

// perfRate is what one direction carried.
type perfRate struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	MBs     float64 `json:"mb_s"`    // 10^6 bytes per second
	Mbits   float64 `json:"mbits_s"` // 10^6 bits per second
}

func newPerfRate(bytes int64, seconds float64) *perfRate {
	r := &perfRate{Bytes: bytes, Seconds: seconds}
	if seconds > 0 {
		r.MBs = float64(bytes) / 1e6 / seconds
		r.Mbits = r.MBs * 8
	}
	return r
}

// perfResult is the outcome, as --json prints it.
type perfResult struct {
	Peer      string  `json:"peer"`
	OK        bool    `json:"ok"`
	Path      string  `json:"path,omitempty"`
	Remote    string  `json:"remote,omitempty"`
	ConnectMS float64 `json:"connect_ms,omitempty"`
	Streams   int     `json:"streams,omitempty"`
	Size      int     `json:"size,omitempty"`
	// Up is from here to the peer, as counted there; Down the other way. Null: not asked for.
	Up   *perfRate `json:"up"`
	Down *perfRate `json:"down"`
	// RTTMS is the round trip under load, MinRTTMS the smallest; packets are those of this side.
	RTTMS       float64 `json:"rtt_ms,omitempty"`
	MinRTTMS    float64 `json:"min_rtt_ms,omitempty"`
	PacketsSent uint64  `json:"packets_sent,omitempty"`
	PacketsLost uint64  `json:"packets_lost"`
	Reason      string  `json:"reason,omitempty"`
	Error       string  `json:"error,omitempty"`
}

type perfer struct {
	std     streams
	who     *standing
	peer    string
	request perfRequest
	streams int
	wait    time.Duration
	asJSON  bool
}

func perfCommand(std streams, who *standing) *cobra.Command {
	p := perfer{std: std, who: who}
	var reverse, both bool
	c := &cobra.Command{
		Use:   "perf PEER",
		Short: "Measure the throughput to a peer",
		Long: `Measure the throughput to a peer, which runs bradawl listen: from here to there, or
the other way (--reverse), or both at once (--both). The result counts what arrived.
On a terminal, a line each second shows how it goes.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.peer = args[0]
			p.request.dirs = perfUp
			switch {
			case both && reverse:
				return usage("--both and --reverse exclude each other")
			case both:
				p.request.dirs = perfUp | perfDown
			case reverse:
				p.request.dirs = perfDown
			}
			if p.streams < 1 || p.streams > perfMaxStreams {
				return usage("-P must be from 1 to %d", perfMaxStreams)
			}
			if err := p.request.check(); err != nil {
				return usageError{err}
			}
			return p.run(cmd.Context())
		},
	}
	c.Flags().IntVarP(&p.streams, "parallel", "P", 1, "streams at once, on one connection")
	c.Flags().IntVar(&p.request.size, "size", 128<<10, "bytes per message, that is per write; at most 1 MiB")
	c.Flags().DurationVarP(&p.request.duration, "time", "t", 5*time.Second, "how long to send")
	c.Flags().BoolVarP(&reverse, "reverse", "R", false, "let the peer send")
	c.Flags().BoolVar(&both, "both", false, "send both ways at once")
	c.Flags().DurationVar(&p.wait, "wait", 0, "how long to wait for the peer to sign in")
	c.Flags().BoolVar(&p.asJSON, "json", false, "print one JSON object")
	return c
}

func (p *perfer) run(ctx context.Context) error {
	r, err := p.measure(ctx)
	if _, bad := errors.AsType[usageError](err); bad || ctx.Err() != nil {
		return err
	}
	r.OK = err == nil
	if err != nil {
		r.Reason, r.Error = string(client.ReasonOf(err)), oneLine(explained(err))
	}
	if perr := p.print(r); perr != nil {
		return perr
	}
	if err != nil {
		return errReported
	}
	return nil
}

func (p *perfer) measure(ctx context.Context) (perfResult, error) {
	r := perfResult{Peer: p.peer}
	cfg, err := p.who.config()
	if err != nil {
		return r, err
	}
	c, err := signIn(ctx, cfg)
	if err != nil {
		return r, err
	}
	defer c.Close()
	conn, err := c.Connect(ctx, p.peer, client.WaitForPeer(p.wait))
	if err != nil {
		return r, err
	}
	defer conn.Close()
	if err := conn.Proven(ctx); err != nil {
		return r, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // streams end with it
	defer stop()
	i := conn.Info()
	r.Path, r.Remote, r.ConnectMS = i.Path, i.Remote.String(), inMillis(i.ConnectDuration)
	r.Streams, r.Size = p.streams, p.request.size
	if p.shows() {
		_, _ = fmt.Fprintf(p.std.err, "connected to %s\n", describe(conn))
	}
	if err := p.transfer(ctx, conn, &r); err != nil {
		return r, perfError(err)
	}
	s := conn.Stats()
	r.RTTMS, r.MinRTTMS, r.PacketsSent, r.PacketsLost = inMillis(s.RTT), inMillis(s.MinRTT), s.PacketsSent, s.PacketsLost
	return r, nil
}

// transfer runs the streams and adds up what they moved.
func (p *perfer) transfer(ctx context.Context, conn *client.Conn, r *perfResult) error {
	var t perfTransfer
	ends := make([]perfEnd, p.streams)
	var g errgroup.Group
	for i := range ends {
		s, err := conn.OpenStream(ctx)
		if err != nil {
			return errors.Join(err, conn.Close(), g.Wait())
		}
		g.Go(func() (err error) {
			ends[i], err = openPerf(s, p.request, &t)
			return err
		})
	}
	done := make(chan struct{})
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		if p.shows() {
			p.progress(&t, conn, done)
		}
	}()
	err := g.Wait()
	close(done)
	<-shown
	if err != nil {
		return err
	}
	var sum perfEnd
	for _, e := range ends {
		sum.up, sum.down = sum.up+e.up, sum.down+e.down
		sum.upSeconds, sum.dnSeconds = max(sum.upSeconds, e.upSeconds), max(sum.dnSeconds, e.dnSeconds)
	}
	if p.request.dirs&perfUp != 0 {
		r.Up = newPerfRate(sum.up, sum.upSeconds)
	}
	if p.request.dirs&perfDown != 0 {
		r.Down = newPerfRate(sum.down, sum.dnSeconds)
	}
	return nil
}

// perfError says what a refused stream means.
func perfError(err error) error {
	if s, ok := errors.AsType[*quic.StreamError](err); ok && s.Remote {
		if s.ErrorCode == perfRefused {
			return fmt.Errorf("the peer has refused the measurement: it serves as many streams as it may, try again later with fewer: %w", err)
		}
		return fmt.Errorf("the peer has ended the measurement; it must run bradawl listen: %w", err)
	}
	return err
}

// shows tells whether somebody watches.
func (p *perfer) shows() bool {
	f, ok := p.std.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress prints a line each second until done.
func (p *perfer) progress(t *perfTransfer, conn *client.Conn, done <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began, last := time.Now(), time.Now()
	var sent, received int64
	for {
		select {
		case now := <-tick.C:
			s, d := t.sent.Load(), t.received.Load()
			writePerfProgress(p.std.err, p.request.dirs, now.Sub(began), now.Sub(last), s-sent, d-received, conn.Stats())
			sent, received, last = s, d, now
		case <-done:
			return
		}
	}
}

func writePerfProgress(w io.Writer, dirs byte, at, over time.Duration, sent, received int64, s client.Stats) {
	_, _ = fmt.Fprintf(w, "%3.0f s", at.Seconds())
	if dirs&perfUp != 0 {
		_, _ = fmt.Fprintf(w, "  up %8.1f MB/s", float64(sent)/1e6/over.Seconds())
	}
	if dirs&perfDown != 0 {
		_, _ = fmt.Fprintf(w, "  down %8.1f MB/s", float64(received)/1e6/over.Seconds())
	}
	_, _ = fmt.Fprintf(w, "  round trip %6.1f ms  lost %.2f %%\n", inMillis(s.RTT), s.Loss()*100)
}

func (p *perfer) print(r perfResult) error {
	if p.asJSON {
		return json.NewEncoder(p.std.out).Encode(r)
	}
	if !r.OK {
		_, err := fmt.Fprintf(p.std.out, "%s: no result: %s\n", r.Peer, r.Error)
		return err
	}
	for _, d := range []struct {
		name string
		rate *perfRate
	}{{"up", r.Up}, {"down", r.Down}} {
		if d.rate == nil {
			continue
		}
		if _, err := fmt.Fprintf(p.std.out, "%s: %-4s %.1f MB in %.1f s: %.1f MB/s, %.0f Mbit/s\n",
			r.Peer, d.name, float64(d.rate.Bytes)/1e6, d.rate.Seconds, d.rate.MBs, d.rate.Mbits); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.std.out, "%s: %d streams, messages of %d bytes, path %s, round trip %.1f ms (least %.1f), %d of %d packets lost\n",
		r.Peer, r.Streams, r.Size, r.Path, r.RTTMS, r.MinRTTMS, r.PacketsLost, r.PacketsSent)
	return err
}
