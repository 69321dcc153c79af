package commands

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/client"
)

// pingEcho bounds one echo.
const pingEcho = 5 * time.Second

// pingResult is one attempt, as --json prints it.
type pingResult struct {
	Peer      string    `json:"peer"`
	OK        bool      `json:"ok"`
	Path      string    `json:"path,omitempty"`
	Strategy  string    `json:"strategy,omitempty"`
	ConnectMS float64   `json:"connect_ms,omitempty"`
	ProvenMS  float64   `json:"proven_ms,omitempty"`
	RTTMS     float64   `json:"rtt_ms,omitempty"`
	EchoMS    []float64 `json:"echo_ms,omitempty"`
	SkewMS    *float64  `json:"skew_ms"` // null: not known, the peer's first INIT was lost
	NAT       string    `json:"nat,omitempty"`
	PeerNAT   string    `json:"peer_nat,omitempty"`
	Local     string    `json:"local,omitempty"`
	Remote    string    `json:"remote,omitempty"`
	Attempts  uint32    `json:"attempts,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Error     string    `json:"error,omitempty"`
}

type pinger struct {
	std    streams
	who    *standing
	peer   string
	count  int
	wait   time.Duration
	exact  bool
	asJSON bool
}

func pingCommand(std streams, who *standing) *cobra.Command {
	p := pinger{std: std, who: who}
	attempts := 1
	var limit time.Duration
	c := &cobra.Command{
		Use:   "ping PEER",
		Short: "Connect to a peer and time it",
		Long: `Connect to a peer, prove the path and time some echoes. The peer runs bradawl
listen. Each attempt signs in with a new socket, so that no NAT knows it yet. The
exit status is 0 if every attempt connected.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p.peer = args[0]
			if attempts < 1 || p.count < 0 {
				return usage("--attempts must be at least 1 and -c at least 0")
			}
			return p.run(cmd.Context(), attempts, limit)
		},
	}
	c.Flags().IntVarP(&p.count, "count", "c", 3, "echoes per attempt")
	c.Flags().IntVar(&attempts, "attempts", 1, "how often to connect afresh")
	c.Flags().DurationVar(&p.wait, "wait", 0, "how long to wait for the peer to sign in")
	c.Flags().DurationVar(&limit, "timeout", 30*time.Second, "how long one attempt may take, the wait not counted")
	c.Flags().BoolVar(&p.exact, "exact", false, "have both sides fire at one common instant")
	c.Flags().BoolVar(&p.asJSON, "json", false, "print one JSON object per attempt")
	return c
}

func (p *pinger) run(ctx context.Context, attempts int, limit time.Duration) error {
	var took []float64
	done := 0
	for ; done < attempts && ctx.Err() == nil; done++ {
		one, cancel := context.WithTimeoutCause(ctx, limit+p.wait, fmt.Errorf("no result within %v", limit+p.wait))
		r, err := p.attempt(one)
		cancel()
		if _, bad := errors.AsType[usageError](err); bad {
			return err
		}
		if ctx.Err() != nil && !r.OK {
			break // interrupted: this one says nothing
		}
		if r.OK {
			took = append(took, r.ConnectMS)
		} else {
			r.Reason, r.Error = string(client.ReasonOf(err)), oneLine(explained(err))
		}
		if err := p.print(r); err != nil {
			return err
		}
	}
	if !p.asJSON && attempts > 1 && done > 0 {
		_, _ = fmt.Fprintf(p.std.out, "%d of %d attempts connected%s\n", len(took), done, quantiles(took))
	}
	if len(took) < attempts {
		return errReported
	}
	return nil
}

func quantiles(ms []float64) string {
	if len(ms) == 0 {
		return ""
	}
	slices.Sort(ms)
	return fmt.Sprintf("; connect p50 %.1f ms, p99 %.1f ms", ms[len(ms)/2], ms[len(ms)*99/100])
}

// attempt connects once, with a socket and a sign-in of its own.
func (p *pinger) attempt(ctx context.Context) (pingResult, error) {
	r := pingResult{Peer: p.peer}
	cfg, err := p.who.config()
	if err != nil {
		return r, err
	}
	c, err := signIn(ctx, cfg)
	if err != nil {
		return r, err
	}
	defer c.Close()
	r.NAT = string(c.Status().Mapping)
	opts := []client.ConnectOption{client.WaitForPeer(p.wait)}
	if p.exact {
		opts = append(opts, client.Exact())
	}
	conn, err := c.Connect(ctx, p.peer, opts...)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	if err := conn.Proven(ctx); err != nil {
		return r, err
	}
	i := conn.Info()
	r.OK = true
	r.ProvenMS = inMillis(time.Since(i.Asked))
	r.Path, r.Local, r.Remote, r.Attempts = i.Path, i.Local.String(), i.Remote.String(), i.Attempts
	r.Strategy = i.Strategy
	r.ConnectMS, r.PeerNAT = inMillis(i.ConnectDuration), string(i.PeerMapping)
	if i.SkewKnown {
		skew := inMillis(i.Skew)
		r.SkewMS = &skew
	}
	if p.count > 0 {
		if r.EchoMS, err = echoes(ctx, conn, p.count); err != nil {
			r.Error = "the peer does not echo: " + oneLine(err)
		}
	}
	r.RTTMS = inMillis(conn.MinRTT())
	if len(r.EchoMS) > 0 {
		r.RTTMS = slices.Min(r.EchoMS)
	}
	return r, nil
}

func inMillis(d time.Duration) float64 { return float64(d.Round(time.Microsecond)) / 1e6 }

// echoes times n round trips of a few bytes on one stream.
func echoes(ctx context.Context, conn *client.Conn, n int) (ms []float64, err error) {
	s, err := conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	defer s.CancelRead(0)
	defer s.Close()
	out, in := make([]byte, 32), make([]byte, 32)
	for range n {
		_, _ = rand.Read(out) // does not fail
		start := time.Now()
		_ = s.SetDeadline(start.Add(pingEcho))
		if _, err := s.Write(out); err != nil {
			return ms, err
		}
		if _, err := io.ReadFull(s, in); err != nil {
			return ms, err
		}
		if string(in) != string(out) {
			return ms, errors.New("the answer differs from what was sent")
		}
		ms = append(ms, inMillis(time.Since(start)))
	}
	return ms, nil
}

func (p *pinger) print(r pingResult) error {
	if p.asJSON {
		return json.NewEncoder(p.std.out).Encode(r)
	}
	if !r.OK {
		_, err := fmt.Fprintf(p.std.out, "%s: not connected: %s\n", r.Peer, r.Error)
		return err
	}
	skew := ""
	if r.SkewMS != nil {
		skew = fmt.Sprintf(", skew %.1f ms", *r.SkewMS)
	}
	_, err := fmt.Fprintf(p.std.out, "%s: connected in %.1f ms to %s (%s), round trip %.1f ms%s, mapping here %s, there %s\n",
		r.Peer, r.ConnectMS, r.Remote, r.Path, r.RTTMS, skew, r.NAT, r.PeerNAT)
	if err == nil && r.Error != "" {
		_, err = fmt.Fprintf(p.std.out, "%s: %s\n", r.Peer, r.Error)
	}
	return err
}
