package commands

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/client"
)

func connectCommand(std streams, who *standing) *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "connect PEER",
		Short: "Connect standard input and output to a peer",
		Long: `Connect standard input and output to a peer, as netcat does. The peer runs
bradawl listen. The end of standard input is passed on; the command ends when
both directions have ended.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			conn, err := c.Connect(ctx, args[0], client.WaitForPeer(wait))
			if err != nil {
				return explained(err)
			}
			defer conn.Close()
			_, _ = fmt.Fprintf(std.err, "connected to %s\n", describe(conn))
			return bridge(ctx, conn, std.in, std.out)
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "how long to wait for the peer to sign in")
	return c
}

// describe says who a connection leads to, and how.
func describe(conn *client.Conn) string {
	i := conn.Info()
	return fmt.Sprintf("%s at %s (%s) in %s", conn.Peer().Name, i.Remote, i.Path, millis(i.ConnectDuration))
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
