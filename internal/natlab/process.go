package natlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// spawner starts processes from a thread that lives as long as the lab. The kernel
// delivers a child's parent-death signal when the *thread* that forked it ends.
type spawner struct {
	jobs chan func()
	done chan struct{}
	quit chan struct{}
}

func startSpawner() *spawner {
	s := &spawner{jobs: make(chan func()), done: make(chan struct{}), quit: make(chan struct{})}
	go s.loop()
	return s
}

// loop never unlocks its thread: it ends with the goroutine, and its children with it.
// The process's first thread is left alone, because the runtime never ends that one.
func (s *spawner) loop() {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		started := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(started)
			s.serve()
		}()
		<-started // the first thread is taken until here, so the other goroutine has another
		runtime.UnlockOSThread()
		return
	}
	s.serve()
}

func (s *spawner) serve() {
	defer close(s.done)
	for {
		select {
		case job := <-s.jobs:
			job()
		case <-s.quit:
			return
		}
	}
}

// run has the thread call start.
func (s *spawner) run(start func() error) error {
	result := make(chan error, 1)
	select {
	case s.jobs <- func() { result <- start() }:
		return <-result
	case <-s.done:
		return ErrClosed
	}
}

func (s *spawner) stop() {
	close(s.quit)
	<-s.done
}

// killInside kills all processes in the namespaces, children of children included,
// and waits for them to be gone. It repeats until a look finds none, since a
// process may have forked while it was being looked for.
func killInside(ids map[string]bool) error {
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		killed, err := killOnce(ids, deadline)
		if err != nil || !killed {
			return err
		}
	}
	return errors.New("natlab: processes in the lab do not die")
}

func killOnce(ids map[string]bool, deadline time.Time) (killed bool, err error) {
	if len(ids) == 0 {
		return false, nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return false, fmt.Errorf("natlab: list processes: %w", err)
	}
	names, err := proc.Readdirnames(-1)
	_ = proc.Close()
	if err != nil {
		return false, fmt.Errorf("natlab: list processes: %w", err)
	}
	var waits []unix.PollFd
	defer func() {
		for _, w := range waits {
			_ = unix.Close(int(w.Fd))
		}
	}()
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if id, err := os.Readlink("/proc/" + name + "/ns/net"); err != nil || !ids[id] {
			continue
		}
		// The second look, with the process held, rules out that its number was reused.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		id, err := os.Readlink("/proc/" + name + "/ns/net")
		if err != nil || !ids[id] || unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
			_ = unix.Close(fd)
			continue
		}
		waits = append(waits, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for i := range waits {
		left := max(0, time.Until(deadline).Milliseconds())
		for {
			_, err := unix.Poll(waits[i:i+1], int(left))
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
	return len(waits) > 0, nil
}
