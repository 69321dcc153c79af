package main

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol/identity"
)

// ours is the client of this repository: b stays signed in, a signs in afresh for each attempt.
type ours struct {
	w  *world
	id *identity.Identity // a's
	b  *client.Client

	stop    context.CancelFunc
	serving sync.WaitGroup

	serverRTT, peerRTT time.Duration   // the smallest seen
	pings              []time.Duration // one to the rendezvous before each attempt
	stages             stages
}

func newOurs(w *world) (*ours, error) {
	o := &ours{w: w}
	var err error
	if o.id, err = identity.New(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if o.b, err = o.signIn(ctx, w.b, "b", nil, nil); err != nil {
		return nil, err
	}
	ctx, o.stop = context.WithCancel(context.Background())
	o.serving.Go(func() {
		for {
			conn, err := o.b.Accept(ctx)
			if err != nil {
				return
			}
			o.serving.Go(func() { echoFirst(conn) })
		}
	})
	return o, nil
}

// echoFirst sends the bytes of a connection's first stream back.
func echoFirst(conn *client.Conn) {
	s, err := conn.AcceptStream(context.Background()) // ends with the connection
	if err == nil {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	}
}

// signIn makes a client whose NAT is known.
func (o *ours) signIn(ctx context.Context, h *natlab.Host, name string, id *identity.Identity, more func(client.Event)) (*client.Client, error) {
	var at netip.AddrPort
	if h == o.w.a {
		o.w.port++
		at = netip.AddrPortFrom(h.Addr(), o.w.port)
	}
	pc, err := h.ListenUDP(at)
	if err != nil {
		return nil, err
	}
	known := make(chan struct{})
	var once sync.Once
	c, err := client.SignIn(ctx, client.Config{
		URL: o.w.url, Group: "punchbench", Name: name, Identity: id, PacketConn: pc, DialTCP: h.DialContext,
		OnEvent: func(e client.Event) {
			if e.Kind == client.EventNAT {
				once.Do(func() { close(known) })
			}
			if more != nil {
				more(e)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-known:
		return c, nil
	case <-ctx.Done():
		_ = c.Close()
		return nil, errors.New("the NAT's behaviour was not found out in time")
	}
}

func (o *ours) name() string { return "bradawl" }

func (o *ours) attempt(ctx context.Context, start func()) (sample, error) {
	var steps steps
	a, err := o.signIn(ctx, o.w.a, "a", o.id, steps.note)
	if err != nil {
		return sample{}, err
	}
	defer a.Close()
	rtt, err := a.Ping(ctx)
	if err != nil {
		return sample{}, err
	}
	time.Sleep(settle) // the sign-in is over

	start()
	began := time.Now()
	conn, err := a.Connect(ctx, "b")
	if err != nil {
		return sample{}, err
	}
	s, err := conn.OpenStream(ctx)
	if err != nil {
		return sample{}, err
	}
	got := sample{stream: time.Since(began)}
	if err := echoByte(ctx, s); err != nil {
		return sample{}, err
	}
	got.echo = time.Since(began)
	if err := conn.Proven(ctx); err != nil {
		return sample{}, err
	}
	o.stages.add(began, got.stream, &steps)
	o.pings = append(o.pings, rtt)
	o.serverRTT, o.peerRTT = smaller(o.serverRTT, rtt), smaller(o.peerRTT, conn.MinRTT())
	return got, nil
}

func smaller(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

type stream interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

// echoByte sends one byte and waits for it to come back.
func echoByte(ctx context.Context, s stream) error {
	if d, ok := ctx.Deadline(); ok {
		if err := s.SetDeadline(d); err != nil {
			return err
		}
	}
	if _, err := s.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(s, make([]byte, 1))
	return err
}

func (o *ours) close() error {
	o.stop()
	err := o.b.Close()
	o.serving.Wait()
	return err
}
