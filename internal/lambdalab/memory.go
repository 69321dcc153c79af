package lambdalab

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"
)

// memoryInterval is the time between two looks at the processes' memory.
const memoryInterval = 50 * time.Millisecond

// watchMemory kills processes that have more memory than their function may.
func (s *Service) watchMemory() {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		running := make([]*environment, 0, len(s.envs))
		for _, e := range s.envs {
			if e.state == Starting || e.state == Busy { // the others are frozen, or gone soon
				running = append(running, e)
			}
		}
		s.mu.Unlock()
		for _, e := range running {
			e.checkMemory()
		}
	}
}

// checkMemory takes the process's resident memory, and kills it for too much.
func (e *environment) checkMemory() {
	s := e.svc
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.pid == 0 {
		return
	}
	used := residentBytes(e.pid)
	e.maxMemoryMB = max(e.maxMemoryMB, megabytes(used))
	if used > int64(e.fn.MemoryMB)<<20 {
		e.outOfMemory = true
		e.maxMemoryMB = e.fn.MemoryMB // as Lambda reports it
		_ = e.signal(syscall.SIGKILL)
	}
}

// measure takes the most memory that the process has had so far.
func (e *environment) measure() {
	s := e.svc
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.pid != 0 {
		e.maxMemoryMB = max(e.maxMemoryMB, megabytes(peakBytes(e.pid)))
	}
}

func megabytes(n int64) int { return int((n + 1<<20 - 1) >> 20) }

// residentBytes returns a process's resident memory, or 0 if it has ended.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64) // 0 where it is no number
	return pages * int64(os.Getpagesize())
}

// peakBytes returns the most resident memory that a process has had, or 0 if
// it has ended.
func peakBytes(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(b, []byte("\nVmHWM:"))
	if !ok {
		return 0
	}
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(string(fields[0]), 10, 64) // 0 where it is no number
	return kib << 10
}
