package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
)

// pair returns the two ends of a proven connection.
func pair(t *testing.T) (a, b *client.Conn) {
	t.Helper()
	w := newWorld(t)
	ca := w.client(w.behind("a", natlab.PortRestricted()), "a")
	cb := w.client(w.behind("b", natlab.PortRestricted()), "b")
	ctx := within(t, 10*time.Second)
	a, err := ca.Connect(ctx, "b")
	must(t, err)
	b, err = cb.Accept(ctx)
	must(t, err)
	must(t, a.Proven(ctx))
	must(t, b.Proven(ctx))
	return a, b
}

func TestHTTPRunsOverAConnection(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ln := b.Listener()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	defer wg.Wait()
	defer srv.Close()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return a.DialStream(ctx) }}
	defer tr.CloseIdleConnections()
	body := make([]byte, 300_000)
	_, _ = rand.Read(body)
	for range 3 {
		resp, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Post("http://b/", "text/plain", bytes.NewReader(body))
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if !bytes.Equal(got, body) {
			t.Fatalf("got %d bytes back, want %d", len(got), len(body))
		}
	}
}

func TestStreamsAsNetConnsCloseEachWay(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ln := b.Listener()
	out, err := a.DialStream(within(t, 5*time.Second))
	must(t, err)
	_, err = out.Write([]byte("question"))
	must(t, err)
	must(t, out.(interface{ CloseWrite() error }).CloseWrite())
	in, err := ln.Accept()
	must(t, err)
	got, err := io.ReadAll(in)
	must(t, err)
	_, err = in.Write(append(got, '!'))
	must(t, err)
	must(t, in.Close())
	got, err = io.ReadAll(out)
	must(t, err)
	if string(got) != "question!" {
		t.Errorf("got %q", got)
	}
	if out.RemoteAddr().String() != a.Info().Remote.String() || out.LocalAddr().String() != a.Info().Local.String() {
		t.Errorf("addresses %s, %s; want those of %+v", out.LocalAddr(), out.RemoteAddr(), a.Info())
	}
	must(t, out.SetReadDeadline(time.Now().Add(-time.Second)))
	must(t, out.Close())
	must(t, ln.Close())
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener accepts: %v", err)
	}
	if a.Context().Err() != nil {
		t.Error("closing the listener has closed the connection")
	}
}

func TestDatagramsAndUnidirectionalStreams(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := within(t, 10*time.Second)
	must(t, a.SendDatagram(make([]byte, 1100)))
	d, err := b.ReceiveDatagram(ctx)
	must(t, err)
	if len(d) != 1100 {
		t.Errorf("a datagram of %d bytes", len(d))
	}
	out, err := b.OpenUniStream(ctx) // not the proof's
	must(t, err)
	_, err = out.Write([]byte("one way"))
	must(t, err)
	must(t, out.Close())
	in, err := a.AcceptUniStream(ctx)
	must(t, err)
	got, err := io.ReadAll(in)
	must(t, err)
	if string(got) != "one way" {
		t.Errorf("got %q", got)
	}
}

func TestTheCodeOfACloseArrives(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	must(t, a.CloseWithError(42, "enough"))
	<-b.Context().Done()
	app, ok := errors.AsType[*quic.ApplicationError](context.Cause(b.Context()))
	if !ok || app.ErrorCode != 42 || app.ErrorMessage != "enough" {
		t.Errorf("the peer sees %v", context.Cause(b.Context()))
	}
	ctx := within(t, 5*time.Second)
	for name, try := range map[string]func(c *client.Conn) error{
		"open":       func(c *client.Conn) error { _, err := c.OpenStream(ctx); return err },
		"accept":     func(c *client.Conn) error { _, err := c.AcceptStream(ctx); return err },
		"open uni":   func(c *client.Conn) error { _, err := c.OpenUniStream(ctx); return err },
		"accept uni": func(c *client.Conn) error { _, err := c.AcceptUniStream(ctx); return err },
		"datagram":   func(c *client.Conn) error { _, err := c.ReceiveDatagram(ctx); return err },
		"listener":   func(c *client.Conn) error { _, err := c.Listener().Accept(); return err },
	} {
		if err := try(a); !errors.Is(err, client.ErrClosed) {
			t.Errorf("%s here: %v", name, err)
		}
		if err := try(b); !errors.Is(err, client.ErrPeerClosed) {
			t.Errorf("%s there: %v", name, err)
		}
	}
	if err := a.CloseWithError(1<<62, ""); err == nil {
		t.Error("a code that does not fit was taken")
	}
}

func TestManyMegabytesPassInBothDirections(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	go echoStreams(b)
	roundTrip(t, a, 20<<20)
}
