// Command release builds what is handed out, into one directory:
//
//	go run ./internal/release --version v1.2.3 --out dist
//
// For linux on amd64 and arm64 these are an archive with server and command, and the Lambda functions worker and
// probe as zip files for the runtime provided.al2023. SHA256SUMS covers them all. The same source and the same version of Go make the
// same bytes, wherever and whenever they are built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/bradawl/bradawl/internal/buildinfo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if buildinfo.Asked(args) {
		_, err := fmt.Fprintln(stdout, "release version", buildinfo.String())
		return err
	}
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	var o order
	var archs string
	flags.StringVar(&o.version, "version", "", "`version` to build, such as v1.2.3 (alone: print this program's own)")
	flags.StringVar(&o.out, "out", "", "`directory` to write to; it is made, and must be empty")
	flags.StringVar(&archs, "arch", "amd64,arm64", "`architectures`, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; --help lists the flags", flags.Arg(0))
	}
	o.archs = strings.Split(archs, ",")
	if err := o.check(); err != nil {
		return err
	}
	return o.make(ctx, stdout)
}
