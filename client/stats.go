package client

import (
	"net/netip"
	"time"
)

// Stats is what a connection has carried so far and how its path is doing. The
// counts are of whole QUIC packets, without UDP's and IP's headers; they only grow,
// but for the lost ones.
type Stats struct {
	// Age is the time since the connection was ready.
	Age time.Duration
	// Path is the type of the peer's address, as in [ConnInfo].
	Path string
	// Local and Remote are the addresses in use, as seen from here.
	Local, Remote netip.AddrPort

	// BytesSent and PacketsSent count what was handed to the network,
	// retransmissions included; BytesReceived and PacketsReceived what came in,
	// duplicates included.
	BytesSent, BytesReceived     uint64
	PacketsSent, PacketsReceived uint64
	// BytesLost and PacketsLost are of sent packets that are given up for lost. One that turns
	// out to have been merely late is taken off again.
	BytesLost, PacketsLost uint64

	// RTT is the smoothed round-trip time, LatestRTT the last sample, MinRTT the
	// smallest, RTTDeviation the mean deviation (RFC 9002 section 5). The delay with which
	// the peer acknowledges is taken off RTT, not off MinRTT.
	RTT, LatestRTT, MinRTT, RTTDeviation time.Duration
	// CongestionWindow is how many bytes may be under way at once.
	CongestionWindow uint64
}

// Loss is the share of sent packets that were lost, from 0 to 1; 0 if none was sent.
func (s Stats) Loss() float64 {
	if s.PacketsSent == 0 {
		return 0
	}
	return min(1, float64(s.PacketsLost)/float64(s.PacketsSent))
}

// Stats returns the connection's statistics. It is cheap enough to be called
// many times a second, and works after the connection has ended.
func (c *Conn) Stats() Stats {
	q := c.qc.ConnectionStats()
	i := c.Info()
	return Stats{
		Age:  time.Since(i.Asked) - i.ConnectDuration,
		Path: i.Path, Local: i.Local, Remote: i.Remote,
		BytesSent: q.BytesSent, BytesReceived: q.BytesReceived,
		PacketsSent: q.PacketsSent, PacketsReceived: q.PacketsReceived,
		BytesLost: q.BytesLost, PacketsLost: q.PacketsLost,
		RTT: q.SmoothedRTT, LatestRTT: q.LatestRTT, MinRTT: q.MinRTT, RTTDeviation: q.MeanDeviation,
		CongestionWindow: q.CongestionWindow,
	}
}
