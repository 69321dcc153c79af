package forward

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// frameRoom is what a ring's slot needs beside the IP packet: the slot's header, the address,
// alignment and the Ethernet header.
const frameRoom = 256

// slots is the length of a ring: bursts that arrive while the engine is busy wait there.
const slots = 512

// port is an AF_PACKET socket on one link, which receives through a TPACKET_V2 ring:
//
//	slot: | Tpacket2Hdr, status first | ... | frame at Mac, Snaplen bytes |
type port struct {
	fd   int
	ring []byte
	slot int // size
	at   int // the next one to read
}

func openPort(link string, mtu int) (*port, error) {
	fail := func(what string, err error) (*port, error) {
		return nil, fmt.Errorf("%s link %s: %w", what, link, err)
	}
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return fail("find", err)
	}
	// Without a protocol the socket receives nothing before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail("open a packet socket for", err)
	}
	p := &port{fd: fd, slot: 1 << bits.Len(uint(max(mtu, 1500)+frameRoom-1))}
	block := max(p.slot, 1<<16)
	req := &unix.TpacketReq{
		Block_size: uint32(block), Block_nr: uint32(slots * p.slot / block),
		Frame_size: uint32(p.slot), Frame_nr: slots,
	}
	for _, o := range []struct{ name, value int }{
		{unix.PACKET_VERSION, unix.TPACKET_V2}, {unix.PACKET_IGNORE_OUTGOING, 1}, {unix.PACKET_QDISC_BYPASS, 1},
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o.name, o.value); err != nil {
			p.close()
			return fail("set up a packet socket for", err)
		}
	}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, req); err != nil {
		p.close()
		return fail("make a ring for", err)
	}
	if p.ring, err = unix.Mmap(fd, 0, slots*p.slot, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		p.close()
		return fail("map the ring of", err)
	}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index}); err != nil {
		p.close()
		return fail("bind a packet socket to", err)
	}
	return p, nil
}

func (p *port) close() {
	if p.ring != nil {
		_ = unix.Munmap(p.ring)
	}
	_ = unix.Close(p.fd)
}

func (p *port) header() *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&p.ring[p.at*p.slot]))
}

// next returns the next frame and when it arrived, in wall clock nanoseconds. The frame is nil if it
// did not fit the slot. It is valid until release, which must follow.
func (p *port) next() (frame []byte, stamp int64, ok bool) {
	h := p.header()
	if atomic.LoadUint32(&h.Status)&unix.TP_STATUS_USER == 0 {
		return nil, 0, false
	}
	stamp = int64(h.Sec)*1e9 + int64(h.Nsec)
	if h.Snaplen < h.Len {
		return nil, stamp, true
	}
	from := p.at*p.slot + int(h.Mac)
	return p.ring[from : from+int(h.Snaplen)], stamp, true
}

// release gives the slot back to the kernel.
func (p *port) release() {
	atomic.StoreUint32(&p.header().Status, unix.TP_STATUS_KERNEL)
	p.at = (p.at + 1) % slots
}

func (p *port) send(frame []byte) error {
	_, err := unix.Write(p.fd, frame)
	return err
}

// drops returns how many frames found the ring full since the last call.
func (p *port) drops() uint64 {
	s, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return uint64(s.Drops)
}
