package client_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// An HTTP server on one side of a connection, an http.Transport on the other.
// TLS is there already, so the scheme is http.
func ExampleConn_Listener_http() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	url, stop := exampleURL()
	defer stop()
	here, there, leave := examplePair(ctx, url)
	defer leave()

	// On bob's side.
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "bob has got %s", r.URL.Path)
	})}
	go func() { _ = srv.Serve(there.Listener()) }()
	defer srv.Close()

	// On alice's side: whatever the URL's host is, requests go to bob.
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return here.DialStream(ctx)
	}, WriteBufferSize: 128 << 10} // large writes are faster
	defer transport.CloseIdleConnections()
	httpClient := &http.Client{Transport: transport}

	resp, err := httpClient.Get("http://bob/hello")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body), err)
	// Output: 200 OK bob has got /hello <nil>
}
