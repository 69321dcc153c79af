package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/client"
)

func listenCommand(std streams, who *standing) *cobra.Command {
	var echo, stdio bool
	c := &cobra.Command{
		Use:   "listen",
		Short: "Answer other peers: echo, or standard input and output",
		Long: `Answer other peers. By default everything that comes in on a stream is sent back,
and bradawl perf is answered, for any number of peers, until the command is stopped. With --stdio the first
connection gets standard input and output, and the command ends with it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if echo && stdio {
				return usage("--echo and --stdio exclude each other")
			}
			ctx := cmd.Context()
			cfg, err := who.config()
			if err != nil {
				return err
			}
			c, err := signIn(ctx, cfg)
			if err != nil {
				return err
			}
			defer c.Close()
			_, _ = fmt.Fprintf(std.err, "listening as %s in group %s, seen at %s\n", cfg.Name, cfg.Group, c.Status().Observed)
			if stdio {
				return listenStdio(ctx, std, c)
			}
			return listenEcho(ctx, std, c)
		},
	}
	c.Flags().BoolVar(&echo, "echo", false, "send back what comes in (the default)")
	c.Flags().BoolVar(&stdio, "stdio", false, "connect the first peer to standard input and output")
	return c
}

// listenStdio serves the first connection that is proven.
func listenStdio(ctx context.Context, std streams, c *client.Client) error {
	for {
		conn, err := c.Accept(ctx)
		if err != nil {
			return err
		}
		if err := conn.Proven(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			continue // the peer has gone again
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(std.err, "connected to %s\n", describe(conn))
		return bridge(ctx, conn, std.in, std.out)
	}
}

// listenEcho serves everybody until ctx ends, which is how it is meant to end.
func listenEcho(ctx context.Context, std streams, c *client.Client) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	var mu sync.Mutex // of std.err
	perfs := make(chan struct{}, perfMaxStreams)
	for {
		conn, err := c.Accept(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		_, _ = fmt.Fprintf(std.err, "connected to %s\n", describe(conn))
		mu.Unlock()
		wg.Go(func() { echo(conn, perfs) })
	}
}

// echo sends back what comes in, on every stream, until the connection ends: a
// bidirectional stream on itself, a unidirectional one, as of bradawl connect, on
// one in the other direction.
func echo(conn *client.Conn, perfs chan struct{}) {
	ctx := conn.Context()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			in, err := conn.AcceptUniStream(ctx)
			if err != nil {
				return
			}
			wg.Go(func() {
				out, err := conn.OpenUniStream(ctx)
				if err != nil {
					return
				}
				copyBack(out, in)
			})
		}
	})
	for {
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			return
		}
		wg.Go(func() { answer(s, perfs) })
	}
}

// answer serves one bidirectional stream: as a part of bradawl perf if it begins like one, else it sends back what comes in.
func answer(s *quic.Stream, perfs chan struct{}) {
	begin, isPerf, err := beginsPerf(s)
	if !isPerf {
		if len(begin) > 0 {
			if _, err := s.Write(begin); err != nil {
				return
			}
		}
		switch {
		case err == io.EOF:
			_ = s.Close()
		case err == nil:
			copyBack(s, s)
		}
		return
	}
	select {
	case perfs <- struct{}{}:
		err = answerPerf(s)
		<-perfs
	default:
		err = errTooManyPerfs
	}
	if err != nil {
		s.CancelRead(perfRefused)
		s.CancelWrite(perfRefused)
	}
}

var errTooManyPerfs = errors.New("too many perf streams at once")

func copyBack(out io.WriteCloser, in io.Reader) {
	if _, err := io.Copy(out, in); err == nil {
		_ = out.Close()
	}
}
