package commands

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"
)

func TestPerfHeadersAreBounded(t *testing.T) {
	good := perfRequest{dirs: perfUp | perfDown, size: 1000, duration: time.Second}
	got, err := parsePerf(good.append(nil))
	if err != nil || got != good {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, change := range map[string]func(*perfRequest){
		"no direction":      func(r *perfRequest) { r.dirs = 0 },
		"unknown direction": func(r *perfRequest) { r.dirs = 4 },
		"size 0":            func(r *perfRequest) { r.size = 0 },
		"large":             func(r *perfRequest) { r.size = perfMaxSize + 1 },
		"no time":           func(r *perfRequest) { r.duration = 0 },
		"negative":          func(r *perfRequest) { r.duration = -1 },
		"for ever":          func(r *perfRequest) { r.duration = perfMaxDuration + 1 },
	} {
		bad := good
		change(&bad)
		if _, err := parsePerf(bad.append(nil)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestOnlyTheWholeMagicBeginsPerf(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		read int
		is   bool
		err  error
	}{
		"magic":      {perfMagic + "rest", len(perfMagic), true, nil},
		"empty":      {"", 0, false, io.EOF},
		"other":      {"hello", 1, false, nil},
		"half":       {perfMagic[:7], 7, false, io.EOF},
		"last wrong": {perfMagic[:15] + "x", 16, false, nil},
	} {
		r := bytes.NewReader([]byte(tc.in))
		read, is, err := beginsPerf(iotest.OneByteReader(r))
		if string(read) != tc.in[:tc.read] || is != tc.is || err != tc.err {
			t.Errorf("%s: read %q, %v, %v", name, read, is, err)
		}
	}
}

// pipeEnd is one end of a TCP connection, closed as a stream is.
type pipeEnd struct {
	r *net.TCPConn
}

func (p pipeEnd) Read(b []byte) (int, error)    { return p.r.Read(b) }
func (p pipeEnd) Write(b []byte) (int, error)   { return p.r.Write(b) }
func (p pipeEnd) Close() error                  { return p.r.CloseWrite() }
func (p pipeEnd) SetDeadline(t time.Time) error { return p.r.SetDeadline(t) }

func pipe(t *testing.T) (a, b pipeEnd) {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a.r, err = net.DialTCP("tcp4", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	b.r, err = ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.r.Close(); _ = b.r.Close() })
	return a, b
}

func TestBothSidesOfPerfCountTheSame(t *testing.T) {
	for _, dirs := range []byte{perfUp, perfDown, perfUp | perfDown} {
		a, b := pipe(t)
		answered := make(chan error, 1)
		go func() {
			_, is, err := beginsPerf(b)
			if err == nil && is {
				err = answerPerf(b)
			}
			answered <- err
		}()
		var tr perfTransfer
		end, err := openPerf(a, perfRequest{dirs: dirs, size: 3001, duration: 30 * time.Millisecond}, &tr)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if end.up != tr.sent.Load() || end.down != tr.received.Load() || end.down%3001 != 0 {
			t.Errorf("dirs %d: %+v, counted %d and %d here", dirs, end, tr.sent.Load(), tr.received.Load())
		}
		if (end.up > 0) != (dirs&perfUp != 0) || (end.down > 0) != (dirs&perfDown != 0) {
			t.Errorf("dirs %d: %+v", dirs, end)
		}
	}
}

func TestPerfNoticesAPeerThatDoesNotAnswerIt(t *testing.T) {
	for name, peer := range map[string]func(pipeEnd){
		"echo":   func(b pipeEnd) { _, _ = io.Copy(b, onlyReader{b}) },
		"silent": func(b pipeEnd) { _, _ = io.Copy(io.Discard, b) },
	} {
		a, b := pipe(t)
		go func() { peer(b); _ = b.Close() }()
		var tr perfTransfer
		if _, err := openPerf(a, perfRequest{dirs: perfUp, size: 10, duration: time.Millisecond}, &tr); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzPerfHeader(f *testing.F) {
	f.Add(perfRequest{dirs: 1, size: 1, duration: 1}.append(nil))
	f.Add([]byte(perfMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parsePerf(b)
		if err != nil {
			return
		}
		if r.check() != nil || r.size > perfMaxSize || r.duration > perfMaxDuration {
			t.Errorf("took %+v", r)
		}
		if again := r.append(nil); !bytes.Equal(again[:17], b[:17]) || binary.BigEndian.Uint64(again[24:]) != binary.BigEndian.Uint64(b[24:]) {
			t.Errorf("%x became %x", b, again)
		}
	})
}
