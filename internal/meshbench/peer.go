package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// peerVariable makes this program a peer.
const peerVariable = "BRADAWL_MESHBENCH_PEER"

func isPeer() bool { return os.Getenv(peerVariable) != "" }

// contestant is one way to link a peer to the others.
type contestant interface {
	// prepare opens the socket; what it takes does not count.
	prepare(ctx context.Context) (ready, error)
	// open makes the NAT ready for the others.
	open(targets []target) error
	// run makes all links. It returns when they are there, or ctx has ended.
	run(ctx context.Context) done
	close()
}

// peerMain is a peer's life. It ends when the parent closes its input or dies.
func peerMain() {
	l := lines{enc: json.NewEncoder(os.Stdout), dec: json.NewDecoder(bufio.NewReader(os.Stdin))}
	if err := servePeer(l); err != nil {
		fmt.Fprintln(os.Stderr, "meshbench peer:", err)
		os.Exit(1)
	}
}

func servePeer(l lines) error {
	var s setup
	if err := l.dec.Decode(&s); err != nil {
		return err
	}
	var c contestant = &ours{setup: s}
	if s.Contestant != oursName {
		c = &bare{setup: s}
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
	r, err := c.prepare(ctx)
	cancel()
	if err != nil {
		return l.enc.Encode(ready{Err: err.Error()})
	}
	if err := l.enc.Encode(r); err != nil {
		return err
	}
	var targets []target
	if err := l.dec.Decode(&targets); err != nil {
		return err
	}
	if err := c.open(targets); err != nil {
		return l.enc.Encode(ready{Err: err.Error()})
	}
	if err := l.enc.Encode(ready{}); err != nil {
		return err
	}
	var start bool
	if err := l.dec.Decode(&start); err != nil {
		return err
	}
	stop, err := startProfile(s)
	if err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(context.Background(), s.Timeout)
	defer cancel()
	began, cpu, packets := time.Now(), cpuTime(), packetsSent()
	d := c.run(ctx)
	d.Took, d.CPU, d.Drops = time.Since(began), cpuTime()-cpu, socketDrops()
	d.Packets = packetsSent() - packets
	stop()
	if err := l.enc.Encode(d); err != nil {
		return err
	}
	if err := l.dec.Decode(&start); err != nil && !errors.Is(err, io.EOF) { // the others may still need us
		return err
	}
	return nil
}

func startProfile(s setup) (stop func(), err error) {
	if s.Profile == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(s.Profile, strings.ReplaceAll(s.Contestant, " ", "-")+"-"+s.Name+".pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// packetsSent counts the UDP datagrams that have left this network namespace.
func packetsSent() int {
	text, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		return 0
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || fields[0] != "Udp:":
		case names == nil:
			names = fields
		default:
			if i := slices.Index(names, "OutDatagrams"); i > 0 && i < len(fields) {
				n, _ := strconv.Atoi(fields[i])
				return n
			}
		}
	}
	return 0
}

// socketDrops sums the packets for which the UDP sockets of this network namespace had no room.
func socketDrops() int {
	text, err := os.ReadFile("/proc/self/net/udp")
	if err != nil {
		return 0
	}
	drops := 0
	for i, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if i == 0 || len(fields) == 0 {
			continue
		}
		n, err := strconv.Atoi(fields[len(fields)-1])
		if err == nil {
			drops += n
		}
	}
	return drops
}
