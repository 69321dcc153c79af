package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Serve forwards until in ends, obeying the commands that it reads there, and writing the
// answers to out. It needs CAP_NET_RAW in the network namespace of the process, and the process
// for itself: it turns garbage collection off, since its thread could not stop for it. What it
// allocates is bounded by the pairs' queues.
func Serve(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(3) // one is the engine's own
	e, err := newEngine()
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	go func() { stopped <- e.run() }()
	commands, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var r request
		err := commands.Decode(&r)
		if err != nil {
			e.stop()
			err2 := <-stopped
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, err2)
		}
		answer := make(chan reply, 1)
		e.do(func() { answer <- e.obey(r) })
		select {
		case a := <-answer:
			if err := answers.Encode(a); err != nil {
				return err
			}
		case err := <-stopped:
			return err
		}
	}
}

// obey carries out a command, on the engine's thread.
func (e *engine) obey(r request) reply {
	p, exists := e.pairs[r.Pair]
	if r.Do == "add" {
		if exists {
			return reply{Error: fmt.Sprintf("pair %d exists", r.Pair)}
		}
		if err := e.add(r); err != nil {
			return reply{Error: err.Error()}
		}
		return reply{}
	}
	if !exists {
		return reply{Error: fmt.Sprintf("there is no pair %d", r.Pair)}
	}
	switch r.Do {
	case "shape":
		p.shape(r.Shape)
	case "remove":
		e.remove(r.Pair)
	case "stats":
		p[0].countDrops()
		p[1].countDrops()
		return reply{Stats: [2]Stats{p[0].stats, p[1].stats}}
	default:
		return reply{Error: fmt.Sprintf("unknown command %q", r.Do)}
	}
	return reply{}
}

// add opens the two links of a pair.
func (e *engine) add(r request) error {
	a, err := openPort(r.A, r.MTU)
	if err != nil {
		return err
	}
	b, err := openPort(r.B, r.MTU)
	if err != nil {
		a.close()
		return err
	}
	p := pair{{from: a, to: b}, {from: b, to: a}}
	p.shape(r.Shape)
	for i, d := range p {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(d.from.fd)}
		if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, d.from.fd, &event); err != nil {
			if i == 1 {
				delete(e.directions, int32(a.fd))
			}
			a.close()
			b.close()
			return fmt.Errorf("watch link %s: %w", r.A, err)
		}
		e.directions[event.Fd] = d
	}
	e.pairs[r.Pair] = p
	return nil
}

// remove closes a pair. Its frames stay in the heap until they are due, and go nowhere.
func (e *engine) remove(number int) {
	for _, d := range e.pairs[number] {
		delete(e.directions, int32(d.from.fd))
		d.closed = true
		d.from.close()
	}
	delete(e.pairs, number)
}
