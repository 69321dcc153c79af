// Package forward carries Ethernet frames between pairs of network links, late: with
// delay, jitter, loss and reordering. It stands in for the kernel's netem queueing
// discipline, which many kernels lack.
//
//	link A <--> AF_PACKET ring -> heap of frames by due time -> AF_PACKET send <--> link B
//
// Frames are stamped by the kernel as they arrive, and are due at fixed instants
// after that, so that the forwarder's own wake-ups add nothing up. One thread serves all pairs.
// It belongs in a process of its own: in a busy Go program the thread would have to wait
// for its turn at the Go scheduler, for milliseconds.
//
// [Serve] is that process's main loop, driven by JSON messages; [Client] is the other side.
package forward
