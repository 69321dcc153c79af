package forward

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many frames are taken from one link before the frames that are due get
// their turn.
const batch = 64

// tolerance is how late a frame may be before it counts as late.
const tolerance = 300 * time.Microsecond

// engine forwards for all pairs, in one thread.
type engine struct {
	epoll, wake int
	start       time.Time // all instants are durations since

	pairs      map[int]pair
	directions map[int32]*direction // by the descriptor of the link that it reads
	due        heap
	free       [][]byte // buffers to use again

	napper napper

	mu       sync.Mutex
	commands []func()
	quit     bool
}

func newEngine() (*engine, error) {
	e := &engine{start: time.Now(), pairs: make(map[int]pair), directions: make(map[int32]*direction)}
	var err error
	if e.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if e.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(e.epoll)
		return nil, fmt.Errorf("make an event descriptor: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(e.wake)}
	if err := unix.EpollCtl(e.epoll, unix.EPOLL_CTL_ADD, e.wake, &event); err != nil {
		return nil, fmt.Errorf("watch an event descriptor: %w", err)
	}
	return e, nil
}

// do has the engine's thread call f.
func (e *engine) do(f func()) {
	e.mu.Lock()
	e.commands = append(e.commands, f)
	e.mu.Unlock()
	one := [8]byte{1}
	_, _ = unix.Write(e.wake, one[:]) // fails only if the engine is to be woken already
}

func (e *engine) stop() { e.do(func() { e.quit = true }) }

// run forwards until stop.
func (e *engine) run() error {
	runtime.LockOSThread()
	hurry()
	defer func() {
		for n := range e.pairs {
			e.remove(n)
		}
		_ = unix.Close(e.epoll)
		_ = unix.Close(e.wake)
	}()
	events := make([]unix.EpollEvent, 128)
	for !e.quit {
		n, err := e.wait(events)
		if err != nil {
			return err
		}
		for _, event := range events[:n] {
			if int(event.Fd) == e.wake {
				e.runCommands()
			} else if d := e.directions[event.Fd]; d != nil {
				e.take(d)
			}
		}
		e.sendDue()
	}
	return nil
}

// hurry asks the kernel to wake this thread without delay. What it refuses is done
// without.
func hurry() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	// A short time slice lets a thread preempt those with longer ones as it wakes up.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Runtime: 100_000}, 0)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -15)
}

func (e *engine) runCommands() {
	var buf [8]byte
	_, _ = unix.Read(e.wake, buf[:])
	e.mu.Lock()
	commands := e.commands
	e.commands = nil
	e.mu.Unlock()
	for _, f := range commands {
		f()
	}
}

// wait sleeps until a link has frames, a command comes, or the first frame is due.
//
// The system call is made raw: the runtime does not take the thread's place at its
// scheduler away meanwhile, which the thread would then have to win back before it could send. The
// price is that the world cannot be stopped while it waits; see [Serve].
func (e *engine) wait(events []unix.EpollEvent) (int, error) {
	var timeout *unix.Timespec
	if len(e.due.items) > 0 {
		ts := unix.NsecToTimespec(int64(e.napper.nap(time.Since(e.start), e.due.items[0].due)))
		timeout = &ts
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(e.epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), uintptr(unsafe.Pointer(timeout)), 0, 0)
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("wait for frames: %w", errno)
	}
	if n == 0 && timeout != nil {
		e.napper.overslept(time.Since(e.start))
	}
	return int(n), nil
}

// take moves frames from a link's ring into the heap.
func (e *engine) take(d *direction) {
	now := time.Now()
	mono, wall := now.Sub(e.start), now.UnixNano()
	for range batch {
		frame, stamp, ok := d.from.next()
		if !ok {
			return
		}
		// The kernel stamps by the wall clock. A clock that is being set must not hold frames up.
		age := min(max(time.Duration(wall-stamp), 0), time.Second)
		if due, ok := d.schedule(mono - age); ok && frame != nil {
			d.queued++
			e.due.push(item{due: due, frame: append(e.buffer(), frame...), way: d})
		} else if frame == nil {
			d.stats.Overflowed++
		}
		d.from.release()
	}
}

func (e *engine) buffer() []byte {
	if n := len(e.free); n > 0 {
		b := e.free[n-1]
		e.free = e.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 2048)
}

// sendDue sends all frames that are due.
func (e *engine) sendDue() {
	for len(e.due.items) > 0 {
		late := time.Since(e.start) - e.due.items[0].due
		if late < 0 {
			return
		}
		it := e.due.pop()
		d := it.way
		d.queued--
		if !d.closed {
			if err := d.to.send(it.frame); err != nil && !errors.Is(err, unix.EINTR) {
				d.stats.Overflowed++
			} else {
				d.stats.Forwarded++
				if late > tolerance {
					d.stats.Late++
				}
				d.stats.MaxLateness = max(d.stats.MaxLateness, late)
			}
		}
		if len(e.free) < 4096 {
			e.free = append(e.free, it.frame)
		}
	}
}
