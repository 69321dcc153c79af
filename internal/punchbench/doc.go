// Command punchbench measures how long a connection through two NATs takes, from
// the call to a usable stream and to the first echoed byte, beside its rivals and
// its limits in the same run:
//
//	go run ./internal/punchbench                    # every scenario, 200 attempts each
//	go run ./internal/punchbench -scenario 1ms -n 50 -json
//	go run ./internal/punchbench -skew              # how far apart the INITs of exact mode leave
//
// Both peers, the rendezvous and all rivals run in this one process, on sockets
// of hosts in a lab of kernel NATs (package natlab), so that runtime, scheduler
// and load are the same for all. The attempts of the contestants alternate. Each
// is fresh: one side opens a new socket, of which the NATs know nothing.
//
//	a --[port-restricted]-- link a --+
//	                                 +-- core -- link server --[full cone]-- rendezvous
//	b --[port-restricted]-- link b --+
//
// docs/benchmarks.md tells what the columns mean.
package main
