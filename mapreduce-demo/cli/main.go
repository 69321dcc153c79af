package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/internal/buildinfo"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
	"github.com/bradawl/bradawl/server/daemon"
)

// Exit codes of Main.
const (
	exitOK          = 0
	exitFailure     = 1 // the job failed, or the outputs differ
	exitUsage       = 2 // a flag or an argument is wrong
	exitInterrupted = 130
)

// The first arguments by which the program is something else than the demo.
const (
	roleWorker     = "worker"
	roleRendezvous = "rendezvous"
)

// usageError is an error of whoever typed the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Main runs the command with its arguments, the program's name not among them,
// and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case roleWorker:
			task.Main()
		case roleRendezvous:
			return daemon.Main(context.Background(), args[1:], stdout, stderr)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "mapreduce-demo: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "mapreduce-demo: %s\n", oneLine(err))
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// command is the command line.
func command(stdout, stderr io.Writer) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "mapreduce-demo",
		Short: "Count words with functions behind NATs that talk to one another directly",
		Long: `Count words with functions behind NATs that talk to one another directly.

Mappers and reducers are processes of a local Lambda service, each behind a NAT
of its own. The shuffle between them goes over direct QUIC links, through S3, or
both ways in turn to compare. With no flags it counts the words of the Go source
tree.`,
		Version:       buildinfo.String(),
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return usageError{err}
			}
			return run(cmd.Context(), o, stdout, stderr)
		},
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; --help lists the flags", err)}
	})
	cmd.CompletionOptions.DisableDefaultCmd = true
	o.define(cmd.Flags())
	return cmd
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; --help lists the flags", args[0])}
	}
	return nil
}

// executable is this program's file, to run it again in other roles.
func executable() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the own program: %w", err)
	}
	return exe, nil
}
