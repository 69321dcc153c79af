package commands

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/buildinfo"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/keyfile"
)

const (
	urlVariable  = "BRADAWL_URL"
	defaultGroup = "default"
	// natWait is how long a command waits for the NAT's behaviour to become known after the sign-in.
	natWait = 2 * time.Second
)

// standing is who the user is, and where.
type standing struct {
	urlFile string
	group   string
	name    string
	id      *identity.Identity // one for the process, so that a new sign-in takes its own place back
}

func (s *standing) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.group, "group", defaultGroup, "group to sign in to")
	c.Flags().StringVar(&s.name, "name", "", "own name in the group (default: the host's name and something random)")
}

// url reads the connection string. Errors never repeat it.
func (s *standing) url() (protocol.URL, error) {
	text := os.Getenv(urlVariable)
	switch {
	case s.urlFile != "":
		b, err := keyfile.Read(s.urlFile)
		if err != nil {
			return protocol.URL{}, usageError{err}
		}
		text = string(b)
	case text == "":
		return protocol.URL{}, usage("no connection string: set %s or --url-file; a rendezvous writes one into the file url of its state directory", urlVariable)
	}
	u, err := protocol.ParseURL(strings.TrimSpace(text))
	if err != nil {
		return u, usageError{err}
	}
	return u, nil
}

// config is what to sign in with.
func (s *standing) config() (client.Config, error) {
	u, err := s.url()
	if err != nil {
		return client.Config{}, err
	}
	name := s.name
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "peer"
		}
		name = host + "-" + strings.ToLower(rand.Text()[:6])
	}
	if s.group == "" || len(s.group) > protocol.MaxGroupLen || len(name) > protocol.MaxNameLen {
		return client.Config{}, usage("--group must have 1 to %d bytes, --name at most %d", protocol.MaxGroupLen, protocol.MaxNameLen)
	}
	if s.id == nil {
		if s.id, err = identity.New(); err != nil {
			return client.Config{}, err
		}
	}
	return client.Config{URL: u.Secret(), Group: s.group, Name: name, Agent: "bradawl " + buildinfo.Version(), Identity: s.id}, nil
}

// signIn signs in and waits until the NAT is known, so that the rendezvous can give out the roles accordingly.
func signIn(ctx context.Context, cfg client.Config) (*client.Client, error) {
	known := make(chan struct{}, 1)
	cfg.OnEvent = func(e client.Event) {
		if e.Kind == client.EventNAT {
			select {
			case known <- struct{}{}:
			default:
			}
		}
	}
	c, err := client.SignIn(ctx, cfg)
	if err != nil {
		return nil, explained(err)
	}
	wait := time.NewTimer(natWait)
	defer wait.Stop()
	select {
	case <-known:
	case <-wait.C:
	case <-ctx.Done():
	}
	return c, nil
}

// explained adds what a reason means where the error does not say it.
func explained(err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Reason == protocol.ReasonOK || e.Detail != "" || e.Reason == protocol.ReasonCanceled {
		return err
	}
	return fmt.Errorf("%w (%s)", err, e.Reason.Explain())
}
