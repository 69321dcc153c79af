package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// rival is a contestant as the parent knows it.
type rival struct {
	name   string
	atOnce int // of bare
}

func rivals() []rival {
	return []rival{{oursName, 0}, {bareName, 0}, {fmt.Sprintf("%s, %d at once", bareName, bareBurst), bareBurst}}
}

// quiet is how long the machine rests between two runs, for what the one before has left in the kernel.
const quiet = time.Second

func measure(o options) (_ *result, err error) {
	s := newShape(o)
	w, err := newWorld(s)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := w.close(); err == nil {
			err = cerr
		}
	}()
	r := &result{Shape: o.shape, Peers: len(s.places), Links: s.links(), Rounds: o.rounds}
	all := rivals()
	for _, c := range all {
		r.Rows = append(r.Rows, &row{Name: c.name})
	}
	for i := range o.rounds {
		for k := range all {
			j := (i + k) % len(all) // each takes every place in the order
			if !strings.Contains(all[j].name, o.only) {
				continue
			}
			time.Sleep(quiet)
			got, err := run(o, w, s, all[j])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[j].name, err)
			}
			r.Rows[j].add(got)
			fmt.Fprintf(os.Stderr, "round %d: %s\n", i+1, got)
		}
	}
	r.evaluate()
	return r, nil
}

// process is one peer.
type process struct {
	lines
	cmd   *exec.Cmd
	in    io.WriteCloser
	ready ready
	done  done
}

// run starts all peers, has them link to one another once, and ends them.
func run(o options, w *world, s shape, c rival) (got outcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return got, err
	}
	peers := make([]*process, len(s.places))
	defer func() {
		for _, p := range peers {
			if p != nil {
				_ = p.in.Close()
			}
		}
		for _, p := range peers {
			if p != nil {
				werr := p.cmd.Wait()
				if err == nil && werr != nil {
					err = fmt.Errorf("a peer: %w", werr)
				}
			}
		}
	}()
	for i, pl := range s.places {
		p := &process{cmd: exec.Command(self)}
		p.cmd.Env = append(os.Environ(), peerVariable+"=1")
		p.cmd.Stderr = os.Stderr
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			return got, err
		}
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			return got, err
		}
		p.enc, p.dec = json.NewEncoder(p.in), json.NewDecoder(bufio.NewReader(out))
		if err := w.hosts[i].Start(p.cmd); err != nil {
			return got, fmt.Errorf("start peer %d: %w", i, err)
		}
		peers[i] = p
		conf := setup{Contestant: c.name, Shape: o.shape, SizeA: o.n, Name: pl.name, Role: pl.role, Links: pl.links,
			URL: w.url, Addr: w.hosts[i].Addr().String(), Timeout: o.timeout, AtOnce: c.atOnce, Profile: o.profile}
		if o.shape == shapeBipartite {
			conf.SizeA, conf.SizeB = o.a, o.b
		}
		if err := p.enc.Encode(conf); err != nil {
			return got, err
		}
	}
	hear := func() error {
		for i, p := range peers {
			var r ready
			if err := p.dec.Decode(&r); err != nil {
				return fmt.Errorf("peer %d: %w", i, err)
			}
			if r.Err != "" {
				return fmt.Errorf("peer %d: %s", i, r.Err)
			}
			if r.Port != 0 {
				p.ready = r
			}
		}
		return nil
	}
	if err := hear(); err != nil {
		return got, err
	}
	for i, p := range peers {
		if err := p.enc.Encode(targets(w, s, peers, i)); err != nil {
			return got, err
		}
	}
	if err := hear(); err != nil {
		return got, err
	}
	time.Sleep(quiet)
	return clock(peers, c)
}

// targets lists what a bare peer connects to. The NATs preserve ports, as no two processes share one. Of each pair, each dials as
// often as it is dialled.
func targets(w *world, s shape, peers []*process, i int) []target {
	out := []target{}
	if peers[i].ready.Port == 0 {
		return out
	}
	for j, p := range peers {
		if s.linked(i, j) {
			out = append(out, target{
				Addr:        netip.AddrPortFrom(w.sites[j].PublicAddr(), p.ready.Port).String(),
				Fingerprint: p.ready.Fingerprint, Dial: (i < j) == ((i+j)%2 == 0),
			})
		}
	}
	return out
}

// clock says go and takes the time until the last peer is done.
func clock(peers []*process, c rival) (got outcome, err error) {
	got.Name = c.name
	began, cpu := time.Now(), cpuTime()
	var g errgroup.Group
	var mu sync.Mutex
	for i, p := range peers {
		if err := p.enc.Encode(true); err != nil {
			return got, err
		}
		g.Go(func() error {
			if err := p.dec.Decode(&p.done); err != nil {
				if errors.Is(err, io.EOF) {
					err = errors.New("it has died")
				}
				return fmt.Errorf("peer %d: %w", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			got.Took = time.Since(began)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return got, err
	}
	got.Server = cpuTime() - cpu
	got.CPU = got.Server
	for _, p := range peers {
		got.CPU += p.done.CPU
		got.Ends += p.done.Links
		got.Failures += p.done.Failures
		got.Drops += p.done.Drops
		got.Packets += p.done.Packets
		got.Attempts += p.done.Attempts
		if got.Err == "" {
			got.Err = p.done.Err
		}
	}
	return got, nil
}
