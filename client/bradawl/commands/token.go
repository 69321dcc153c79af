package commands

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/keyfile"
	"github.com/bradawl/bradawl/protocol/token"
)

func tokenCommand(std streams, who *standing) *cobra.Command {
	var (
		key, group, name, out, server string
		pins                          []string
		expires                       time.Duration
	)
	c := &cobra.Command{
		Use:   "token --key FILE",
		Short: "Mint a token, scoped to a group and to names",
		Long: `Mint a token, scoped to a group and to names.

The key is the rendezvous's signing key, token.key in its state directory. With a
connection string at hand (BRADAWL_URL, --url-file) or with --server, the output is
a connection string with the new token in it; else it is the bare token.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if key == "" {
				return usage("--key must name the rendezvous's signing key, token.key in its state directory")
			}
			if expires <= 0 {
				return usage("--expires must be positive, for example 24h")
			}
			u, whole, err := target(who, server, pins)
			if err != nil {
				return err
			}
			signing, err := token.LoadKey(key)
			if err != nil {
				return usageError{err}
			}
			u.Token, err = token.Mint(signing, token.Claims{Group: group, Name: name, Expires: time.Now().Add(expires)})
			if err != nil {
				return usageError{err}
			}
			text := u.Token
			if whole {
				text = u.Secret()
			}
			if out != "" {
				return keyfile.Write(out, []byte(text+"\n"))
			}
			_, err = fmt.Fprintln(std.out, text)
			return err
		},
	}
	c.Flags().StringVar(&key, "key", "", "file with the rendezvous's signing key (required)")
	c.Flags().StringVar(&group, "group", "*", "pattern of groups that the token is good for")
	c.Flags().StringVar(&name, "name", "*", "pattern of names that the token is good for")
	c.Flags().DurationVar(&expires, "expires", 24*time.Hour, "how long the token is good for")
	c.Flags().StringVar(&out, "out", "", "write to this file, mode 0600, instead of standard output")
	c.Flags().StringVar(&server, "server", "", "HOST:PORT of the rendezvous, for a whole connection string")
	c.Flags().StringSliceVar(&pins, "pin", nil, "with --server: the rendezvous's fingerprint; may be repeated")
	return c
}

// target is the rendezvous that the connection string will name, if it is known.
func target(who *standing, server string, pins []string) (u protocol.URL, known bool, err error) {
	if server == "" {
		if len(pins) > 0 {
			return u, false, usage("--pin needs --server")
		}
		if who.urlFile == "" && os.Getenv(urlVariable) == "" {
			return u, false, nil
		}
		u, err = who.url()
		return u, true, err
	}
	for _, p := range pins {
		f, err := identity.ParseFingerprint(p)
		if err != nil {
			return u, false, usageError{err}
		}
		u.Pins = append(u.Pins, f)
	}
	parsed, err := protocol.ParseURL(protocol.URL{Token: "t", Host: server}.Secret())
	if err != nil {
		return u, false, usage("--server %q is not HOST:PORT", server)
	}
	u.Host = parsed.Host
	return u, true, nil
}
