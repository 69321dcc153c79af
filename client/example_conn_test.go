package client_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Several streams and datagrams share one connection; Stats says what has passed.
func ExampleConn_Stats() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	url, stop := exampleURL()
	defer stop()
	here, there, leave := examplePair(ctx, url)
	defer leave()

	// On bob's side: each stream by itself.
	go func() {
		for {
			s, err := there.AcceptUniStream(ctx)
			if err != nil {
				return
			}
			go func() {
				n, _ := io.Copy(io.Discard, s)
				_ = there.SendDatagram(fmt.Append(nil, n)) // may get lost: it is a datagram
			}()
		}
	}()

	// On alice's side.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := here.OpenUniStream(ctx)
			if err != nil {
				return
			}
			_, _ = s.Write(make([]byte, 100_000))
			_ = s.Close()
		})
	}
	wg.Wait()
	for range 4 {
		b, err := here.ReceiveDatagram(ctx)
		fmt.Println(string(b), err)
	}
	stats := here.Stats()
	fmt.Println("more than the payload:", stats.BytesSent > 400_000, "round trip known:", stats.RTT > 0)
	// Output:
	// 100000 <nil>
	// 100000 <nil>
	// 100000 <nil>
	// 100000 <nil>
	// more than the payload: true round trip known: true
}

// The net.Conn of a stream has all that a TCP connection has: deadlines, and an end of its own for each direction.
func ExampleConn_DialStream() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	url, stop := exampleURL()
	defer stop()
	here, there, leave := examplePair(ctx, url)
	defer leave()

	ln := there.Listener()
	defer ln.Close()
	go func() { // on bob's side
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		question, _ := io.ReadAll(conn)
		_, _ = fmt.Fprintf(conn, "you said %q", question)
	}()

	conn, err := here.DialStream(ctx) // on alice's side
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(conn, "hello")
	_ = conn.(interface{ CloseWrite() error }).CloseWrite()
	answer, err := io.ReadAll(conn)
	fmt.Println(string(answer), err)
	// Output: you said "hello" <nil>
}
