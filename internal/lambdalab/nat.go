package lambdalab

import (
	"context"
	"errors"
	"fmt"

	"github.com/bradawl/bradawl/internal/natlab"
)

// NAT returns a network in which every environment is a host of its own
// behind a NAT of its own. The lab is the caller's to close, after the service.
func NAT(lab *natlab.Lab, nat natlab.NAT, link natlab.Link) Network {
	return &natNetwork{lab: lab, nat: nat, link: link}
}

type natNetwork struct {
	lab  *natlab.Lab
	nat  natlab.NAT
	link natlab.Link
}

// NewPlace implements Network.
func (n *natNetwork) NewPlace(ctx context.Context, name string) (Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	site, err := n.lab.AddSite(natlab.SiteConfig{Name: name, NAT: n.nat, Link: n.link})
	if err != nil {
		return nil, err
	}
	host, err := site.AddHost(name)
	if err != nil {
		return nil, errors.Join(err, site.Close())
	}
	return &NATPlace{Host: host}, nil
}

// NATPlace is the place of an environment behind a NAT: its host. The site is
// NATPlace.Site().
type NATPlace struct{ *natlab.Host }

// Close removes the host together with its site.
func (p *NATPlace) Close() error {
	if err := p.Site().Close(); err != nil {
		return fmt.Errorf("lambdalab: close a place: %w", err)
	}
	return nil
}
