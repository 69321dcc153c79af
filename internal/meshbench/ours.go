package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/bradawl/bradawl/client"
)

const oursName = "bradawl"

// ours is this repository's client: all peers are signed in, and join one collective.
type ours struct {
	setup
	c *client.Client
	g *client.Group

	away atomic.Pointer[client.Event] // the control connection was lost
}

func (o *ours) prepare(ctx context.Context) (ready, error) {
	addr, err := netip.ParseAddr(o.Addr)
	if err != nil {
		return ready{}, err
	}
	pc, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return ready{}, err
	}
	known := make(chan struct{})
	var once sync.Once
	o.c, err = client.SignIn(ctx, client.Config{
		URL: o.URL, Group: "meshbench", Name: o.Name, Role: o.Role, PacketConn: pc,
		OnEvent: func(e client.Event) {
			switch e.Kind {
			case client.EventNAT:
				once.Do(func() { close(known) })
			case client.EventControlLost:
				o.away.Store(&e)
			}
		},
	})
	if err != nil {
		return ready{}, err
	}
	select {
	case <-known:
	case <-ctx.Done():
		return ready{}, context.Cause(ctx)
	}
	return ready{}, nil
}

func (o *ours) open([]target) error { return nil }

func (o *ours) run(ctx context.Context) (d done) {
	var err error
	if o.Shape == shapeMesh {
		o.g, err = o.c.Mesh(ctx, "all", o.SizeA)
	} else {
		o.g, err = o.c.Bipartite(ctx, "all", client.Side{Role: roleA, Size: o.SizeA}, client.Side{Role: roleB, Size: o.SizeB})
	}
	for err == nil && d.Links+d.Failures < o.Links {
		var l client.Link
		if l, err = o.g.Next(ctx); err != nil {
			break
		}
		if l.Err != nil {
			d.Failures++
			if d.Err == "" {
				d.Err = l.Err.Error()
			}
			continue
		}
		d.Links++
		d.Attempts += int(l.Conn.Info().Attempts)
	}
	if err != nil {
		d.Failures = o.Links - d.Links
		d.Err = err.Error()
	}
	if e := o.away.Load(); e != nil {
		d.Err = fmt.Sprintf("%s lost the rendezvous: %v; %s", o.Name, e.Err, d.Err)
	}
	return d
}

func (o *ours) close() {
	if o.c != nil {
		_ = o.c.Close()
	}
}
