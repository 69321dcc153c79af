package client

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// requireCoalescing makes a kernel that neither segments nor joins UDP packets a failure, not a skip, if it is "1".
const requireCoalescing = "BRADAWL_REQUIRE_GRO"

// cannotCoalesce ends the test.
func cannotCoalesce(t *testing.T, why string) {
	t.Helper()
	if os.Getenv(requireCoalescing) == "1" {
		t.Fatalf("%s=1, but %s", requireCoalescing, why)
	}
	t.Skip(why)
}

// sendRun sends b as packets of size bytes in one system call.
func sendRun(t *testing.T, from *net.UDPConn, to net.Addr, b []byte, size int) {
	t.Helper()
	if _, _, err := from.WriteMsgUDP(b, segmentControl(uint16(size)), to.(*net.UDPAddr)); err != nil {
		cannotCoalesce(t, fmt.Sprintf("the kernel does not segment: %v", err))
	}
}

func TestCoalescedPacketsComeOneByOneInOrder(t *testing.T) {
	for _, tc := range []struct {
		runs, packets, size, last int // runs, packets per run, their size, that of each run's last
	}{
		{6, 1, 100, 100}, {6, 1, 1, 1}, {6, 2, 1200, 1200}, {6, 9, 1200, 1}, {5, 20, 1452, 700}, {2, 45, 1452, 1451},
	} {
		t.Run(fmt.Sprintf("%+v", tc), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			in, out := loopbackUDP(t), loopbackUDP(t)
			pc, ok := receiveCoalesced(in).(*coalesced)
			if !ok {
				cannotCoalesce(t, "the kernel does not join UDP packets")
			}
			var want [][]byte
			for range tc.runs { // the socket's buffer holds them all
				run := make([]byte, (tc.packets-1)*tc.size+tc.last)
				for i := range run {
					run[i] = byte(rng.Uint32())
				}
				sendRun(t, out, in.LocalAddr(), run, tc.size)
				want = slices.AppendSeq(want, slices.Chunk(run, tc.size))
			}
			if err := pc.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			ms := make([]ipv4.Message, 8)
			for i := range ms {
				ms[i].Buffers = [][]byte{make([]byte, 1500)}
				ms[i].OOB = make([]byte, 128)
			}
			got, calls := 0, 0
			for got < len(want) {
				n, err := pc.ReadBatch(ms, 0)
				if err != nil {
					t.Fatalf("after %d packets of %d: %v", got, len(want), err)
				}
				calls++
				for _, m := range ms[:n] {
					if !bytes.Equal(m.Buffers[0][:m.N], want[got]) {
						t.Fatalf("packet %d has %d bytes and is not the one sent, of %d", got, m.N, len(want[got]))
					}
					if m.Addr.String() != out.LocalAddr().String() {
						t.Fatalf("packet %d comes from %v", got, m.Addr)
					}
					got++
				}
			}
			if limit := len(want)/len(ms) + tc.runs; calls > limit {
				t.Errorf("%d calls for %d packets, want at most %d", calls, len(want), limit)
			}
		})
	}
}

func TestTheSegmentSizeIsTakenOutOfTheControlMessages(t *testing.T) {
	tos, gro := cmsg(unix.IPPROTO_IP, unix.IP_TOS, []byte{2}), cmsg(unix.IPPROTO_UDP, unix.UDP_GRO, []byte{0xb0, 4, 0, 0})
	info := cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12))
	for name, tc := range map[string]struct {
		in, want []byte
		size     int
	}{
		"nothing":   {nil, nil, 0},
		"no size":   {slices.Concat(tos, info), slices.Concat(tos, info), 0},
		"only size": {gro, nil, 1200},
		"first":     {slices.Concat(gro, tos, info), slices.Concat(tos, info), 1200},
		"middle":    {slices.Concat(tos, gro, info), slices.Concat(tos, info), 1200},
		"last":      {slices.Concat(tos, info, gro), slices.Concat(tos, info), 1200},
		"cut off":   {slices.Concat(tos, gro[:17]), tos, 0},
	} {
		others, size := takeSegmentSize(bytes.Clone(tc.in))
		if !bytes.Equal(others, tc.want) || size != tc.size {
			t.Errorf("%s: size %d, left %x; want %d, %x", name, size, others, tc.size, tc.want)
		}
	}
}

func segmentControl(size uint16) []byte {
	return cmsg(unix.IPPROTO_UDP, unix.UDP_SEGMENT, []byte{byte(size), byte(size >> 8)})
}

// cmsg makes one control message; its numbers are little endian, as those of the machines that run the tests.
func cmsg(level, kind int, body []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(body)))
	n := unix.CmsgLen(len(body))
	b[0], b[1] = byte(n), byte(n>>8)
	b[8], b[12] = byte(level), byte(kind)
	copy(b[unix.CmsgLen(0):], body)
	return b
}
