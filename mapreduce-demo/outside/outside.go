// Package outside lets a program that has moved into a network lab reach the
// network that it came from.
//
// A lab's namespaces have no way to the world. A process that stays outside
// serves a Unix socket, which no network namespace hides, and makes TCP
// connections for the one inside:
//
//	inside    host ":" port LF
//	outside   LF, or why it cannot connect and LF
//
// After that the bytes of the TCP connection follow, both ways.
package outside

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Server makes connections for others. Close it.
type Server struct {
	dir      string
	listener *net.UnixListener
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// Serve starts a server on a socket that only this user can reach.
func Serve() (*Server, error) {
	dir, err := os.MkdirTemp("", "outside-*")
	if err != nil {
		return nil, fmt.Errorf("make a way out of the lab: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a way out of the lab: %w", err), os.RemoveAll(dir))
	}
	s := &Server{dir: dir, listener: listener}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.serve)
	return s, nil
}

// Path is where Dial finds the server. Its directory is the server's own; whoever
// outlives the server removes it.
func (s *Server) Path() string { return filepath.Join(s.dir, "socket") }

// Close ends the server and all connections through it.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.wg.Wait()
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *Server) serve() {
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.relay(conn) })
	}
}

// relay connects one caller.
func (s *Server) relay(in *net.UnixConn) {
	defer in.Close()
	stop := context.AfterFunc(s.ctx, func() { in.Close() })
	defer stop()
	r := bufio.NewReaderSize(in, 4096)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return
	}
	var d net.Dialer
	conn, err := d.DialContext(s.ctx, "tcp", strings.TrimSuffix(string(line), "\n"))
	if err != nil {
		fmt.Fprintln(in, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	out := conn.(*net.TCPConn)
	defer out.Close()
	stopOut := context.AfterFunc(s.ctx, func() { out.Close() })
	defer stopOut()
	if _, err := io.WriteString(in, "\n"); err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out)
		_ = in.CloseWrite()
	})
	_, _ = io.Copy(out, r)
	_ = out.CloseWrite()
	back.Wait()
}

// Dialer makes connections through the server at a path.
type Dialer string

// DialContext connects to a TCP address, whose name is looked up outside.
func (d Dialer) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", string(d))
	if err != nil {
		return nil, fmt.Errorf("leave the lab: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	fail := func(err error) (net.Conn, error) {
		stop()
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	if _, err := io.WriteString(conn, address+"\n"); err != nil {
		return fail(err)
	}
	why, err := readLine(conn)
	if err != nil {
		return fail(err)
	}
	if why != "" {
		return fail(errors.New(why))
	}
	if !stop() {
		return fail(context.Cause(ctx))
	}
	return conn, nil
}

// readLine reads up to a newline and not a byte further.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < 4096; {
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
	return "", errors.New("the answer is too long")
}
