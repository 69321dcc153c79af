// Command meshbench measures how long a whole group of peers takes to connect: each a process of its own behind a
// port-restricted NAT of its own, beside bare quic-go that makes the same handshakes through the same NATs.
//
//	go run ./internal/meshbench                              # a mesh of 64 peers, 2,016 links
//	go run ./internal/meshbench -shape bipartite -a 200 -b 50
package main
