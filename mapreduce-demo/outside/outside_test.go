package outside

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func start(t *testing.T) *Server {
	t.Helper()
	s, err := Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Stat(s.Path()); err == nil {
			t.Error("the socket is still there")
		}
	})
	return s
}

func TestHTTPThroughTheSocket(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "got %d bytes", len(body))
	}))
	defer web.Close()
	s := start(t)
	transport := &http.Transport{DialContext: Dialer(s.Path()).DialContext}
	defer transport.CloseIdleConnections()
	for _, n := range []int{0, 1, 1 << 20} {
		response, err := (&http.Client{Transport: transport}).Post(web.URL, "text/plain", strings.NewReader(strings.Repeat("x", n)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if want := fmt.Sprintf("got %d bytes", n); err != nil || string(body) != want {
			t.Errorf("%q, %v; want %q", body, err, want)
		}
	}
}

func TestRefusedConnectionsSayWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s := start(t)
	if _, err := Dialer(s.Path()).DialContext(t.Context(), "tcp", addr); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial: %v, want a refusal", err)
	}
}

func TestCloseEndsConnectionsInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := Serve()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := Dialer(s.Path()).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the server")
	}
}

func TestDialHeedsItsContext(t *testing.T) {
	s := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dialer(s.Path()).DialContext(ctx, "tcp", "127.0.0.1:1"); err == nil {
		t.Error("a canceled dial succeeded")
	}
}
