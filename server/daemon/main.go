package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"

	"github.com/bradawl/bradawl/internal/buildinfo"
)

// Exit codes of Main.
const (
	// ExitOK: the server was told to stop and has drained.
	ExitOK = 0
	// ExitFailure: it could not start or a socket failed.
	ExitFailure = 1
	// ExitUsage: a flag, a variable or the file is wrong.
	ExitUsage = 2
)

// usageError is an error of who started the program.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Main runs the server with command-line arguments (the program's name not
// among them) until ctx ends or SIGTERM or SIGINT comes, and returns the exit
// code. Logs and errors go to stderr; stdout gets one line when the server is
// ready, and the connection string if it is a terminal.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	cmd := command(stdout, stderr)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	_, _ = fmt.Fprintf(stderr, "bradawl-server: %s\n", oneLine(err))
	var usage usageError
	if errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitFailure
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// command is the program's command line.
func command(stdout, stderr io.Writer) *cobra.Command {
	v := viper.New()
	cmd := &cobra.Command{
		Use:   "bradawl-server",
		Short: "The rendezvous at which peers behind NATs find one another",
		Long: `The rendezvous at which peers behind NATs find one another.

Every flag can also be set by the environment variable BRADAWL_ with the flag's
name in capitals and _ for -, and, without the dashes in front, in the YAML file
that --config names. A flag overrules the environment, which overrules the file.`,
		Version:       buildinfo.String(),
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(v, cmd.Flags())
			if err != nil {
				return usageError{err}
			}
			return run(cmd.Context(), s, stdout, stderr)
		},
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; --help lists the flags", err)}
	})
	cmd.CompletionOptions.DisableDefaultCmd = true
	define(cmd.Flags())
	return cmd
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; --help lists the flags", args[0])}
	}
	return nil
}
