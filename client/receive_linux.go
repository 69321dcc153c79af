package client

import (
	"encoding/binary"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// coalescedMax is the largest run of packets that the kernel hands over at once.
	coalescedMax = 1 << 16
	// runsPerRead is how many runs one recvmmsg takes. Their buffers cost address
	// space, but memory only as far as runs have filled them.
	runsPerRead = 4
	oobMax      = 256
)

// coalesced is a UDP socket whose kernel joins packets of one flow on their way
// up (UDP_GRO, Linux 5.0): one pass through the stack and one system call then
// bring up to 64 of them. quic-go reads through ReadBatch where a socket
// has it, and gets the packets one by one again.
//
// ReadBatch is for one goroutine; quic-go's transport has only one that reads.
type coalesced struct {
	*net.UDPConn
	batch *ipv4.PacketConn
	runs  []ipv4.Message
	next  int // the run to go on with
	read  int // runs filled by the last system call

	// other, if set, takes what is not QUIC's, on the reader's goroutine.
	other func(b []byte, from net.Addr)

	rest []byte // of that run, not yet given out
	size int    // of its packets
	oob  []byte // its control messages, without UDP_GRO's
}

// divert has f take the packets that are not QUIC's, before quic-go's queue for them, which holds 32 and drops the rest.
// Call it before the first read. f must not keep b.
func (c *coalesced) divert(f func(b []byte, from net.Addr)) { c.other = f }

// receiveCoalesced turns the joining on where the kernel can. Sockets that are not
// plain UDP sockets stay as they are.
func receiveCoalesced(pc net.PacketConn) net.PacketConn {
	u, ok := pc.(*net.UDPConn)
	if !ok {
		return pc
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return pc
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	})
	if err != nil || serr != nil {
		return pc
	}
	c := &coalesced{UDPConn: u, batch: ipv4.NewPacketConn(u), runs: make([]ipv4.Message, runsPerRead)}
	for i := range c.runs {
		c.runs[i].Buffers = [][]byte{make([]byte, coalescedMax)}
		c.runs[i].OOB = make([]byte, oobMax)
	}
	return c
}

// ReadBatch fills ms with one packet each, as recvmmsg(2) would. It waits for
// the first and returns what has come with it.
func (c *coalesced) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	n := 0
	for n < len(ms) {
		if len(c.rest) == 0 && !c.nextRun() {
			if n > 0 {
				return n, nil
			}
			if err := c.fill(flags); err != nil {
				return 0, err
			}
			continue
		}
		m, run := &ms[n], &c.runs[c.next-1]
		part := c.rest[:min(c.size, len(c.rest))]
		c.rest = c.rest[len(part):]
		if c.other != nil && part[0]&0xc0 == 0 { // RFC 9443, and what quic-go itself goes by
			c.other(part, run.Addr)
			continue
		}
		m.N = copy(m.Buffers[0], part)
		m.NN = copy(m.OOB, c.oob)
		m.Addr, m.Flags = run.Addr, run.Flags
		n++
	}
	return n, nil
}

// fill reads new runs.
func (c *coalesced) fill(flags int) error {
	c.next, c.read = 0, 0
	n, err := c.batch.ReadBatch(c.runs, flags)
	if err != nil {
		return err
	}
	c.read = n
	return nil
}

// nextRun begins to give out the next run; empty datagrams are dropped.
func (c *coalesced) nextRun() bool {
	for c.next < c.read {
		run := &c.runs[c.next]
		c.next++
		if run.N == 0 {
			continue
		}
		c.rest = run.Buffers[0][:run.N]
		c.oob, c.size = takeSegmentSize(run.OOB[:run.NN])
		if c.size <= 0 {
			c.size = run.N // a single packet
		}
		return true
	}
	return false
}

// takeSegmentSize cuts UDP_GRO's control message out of oob, which it overwrites,
// and returns the others and its value; 0 if there is none.
func takeSegmentSize(oob []byte) (others []byte, size int) {
	others = oob[:0]
	for len(oob) > 0 {
		hdr, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return others, size
		}
		if hdr.Level == unix.IPPROTO_UDP && hdr.Type == unix.UDP_GRO {
			if len(body) >= 4 {
				size = int(int32(binary.NativeEndian.Uint32(body)))
			}
		} else {
			others = append(others, oob[:len(oob)-len(rest)]...) // moves to the front, never past what is still to be read
		}
		oob = rest
	}
	return others, size
}
