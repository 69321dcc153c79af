// Package rendezvous is the engine of the server: it signs peers in, tells
// them the time and their own addresses, and orders pairs of them to connect to
// one another. It carries no data between peers.
//
// A [Server] serves one UDP socket with QUIC and STUN at once, if wished a
// second socket for STUN alone, and a TCP listener for STUN that also shows
// clients whether UDP alone is blocked.
//
// Inside, a group (the peers of one job) is a state machine under a lock of its
// own. Its methods take the current time and answer by putting messages into
// the peers' outboxes; they never touch the network and never wait. Each peer
// has a goroutine that reads, one that writes and one that answers clock
// datagrams.
package rendezvous
