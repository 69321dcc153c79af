// Package natlab builds small internets out of Linux network namespaces, with
// real kernel NATs between them. It needs neither root nor any program: the
// namespaces, links, routes and packet filters are made through netlink.
//
//	                          198.18.x.0/20 (public addresses)
//	  Lab.Self()                       core
//	+-----------+  veth   +----------------------------+  veth  +--------------+
//	| the       |---------| forwards; no NAT, no state |--------| public host  |
//	| process   |         +----------------------------+        | Lab.AddHost  |
//	+-----------+           |veth                |veth          +--------------+
//	                        |              +-----------+
//	                        |              | forwarder | delay, jitter, loss and
//	                        |              +-----------+ reordering, if Link asks
//	                        |                    |veth
//	                 +-------------+      +-------------+
//	                 | site router |      | site router |  SNAT, DNAT, filters:
//	                 | public addr |      | public addr |  nftables and conntrack
//	                 +-------------+      +-------------+
//	                   |veth    |veth           |veth
//	                 +------+ +------+       +------+
//	                 | host | | host |       | host |  10.x.y.z, Site.AddHost
//	                 +------+ +------+       +------+
//
// Public hosts and sites can have IPv6 beside IPv4 or instead of it ([Families]): it is routed, without a NAT, through a
// stateful firewall. [Lab.IPv6] tells where the kernel has none.
//
// Every link is routed point to point with fixed neighbour entries, so that no
// address resolution delays a first packet and nothing is broadcast.
//
// A program that builds labs calls [Enter] before anything else; a test package
// calls [Main] from TestMain and [Require] in each test. The words for what a
// NAT does are those of RFC 4787.
package natlab
