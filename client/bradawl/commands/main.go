package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/internal/buildinfo"
)

// Exit codes of Main.
const (
	// ExitOK: it worked.
	ExitOK = 0
	// ExitFailure: it did not, for example because no connection came about.
	ExitFailure = 1
	// ExitUsage: a flag, an argument or the connection string is wrong.
	ExitUsage = 2
	// ExitInterrupted: it was stopped by SIGINT or SIGTERM before it was done.
	ExitInterrupted = 130
)

// usageError is an error of who typed the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends a command whose failure was printed already.
var errReported = errors.New("reported")

// Main runs bradawl with the given arguments, without the program's name, and
// returns the exit code. SIGINT and SIGTERM end it cleanly.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	root := command(streams{stdin, stdout, stderr})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return ExitOK
	case ctx.Err() != nil:
		return ExitInterrupted
	case errors.Is(err, errReported):
		return ExitFailure
	}
	_, _ = fmt.Fprintf(stderr, "bradawl: %s\n", oneLine(err))
	// cobra has no type for a command that does not exist
	if _, ok := errors.AsType[usageError](err); ok || strings.HasPrefix(err.Error(), "unknown command") {
		return ExitUsage
	}
	return ExitFailure
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// streams are the standard streams of the process.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func command(std streams) *cobra.Command {
	var who standing
	root := &cobra.Command{
		Use:   "bradawl",
		Short: "Connect two machines behind NATs directly",
		Long: `Connect two machines behind NATs directly.

The connection string of the rendezvous comes from the environment variable
BRADAWL_URL or from the file that --url-file names. It contains a token: treat
it as a password.`,
		Version:       buildinfo.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&who.urlFile, "url-file", "", "file with the connection string, instead of "+urlVariable)
	for _, c := range []*cobra.Command{
		listenCommand(std, &who), connectCommand(std, &who), pingCommand(std, &who), perfCommand(std, &who), netcheckCommand(std, &who),
	} {
		who.flags(c)
		root.AddCommand(c)
	}
	root.AddCommand(tokenCommand(std, &who))
	for _, c := range root.Commands() {
		if args := c.Args; args != nil {
			c.Args = func(cmd *cobra.Command, given []string) error {
				if err := args(cmd, given); err != nil {
					return usageError{fmt.Errorf("%s: %w; see bradawl %s --help", cmd.Name(), err, cmd.Name())}
				}
				return nil
			}
		}
	}
	return root
}
