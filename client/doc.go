// Package client is bradawl's SDK: it signs in to a rendezvous, finds out how
// the NAT in front of this process behaves, and connects to other peers of its
// group straight through both NATs, over QUIC.
//
// One UDP socket serves everything: the control connection to the rendezvous,
// STUN, the INIT packets that open NATs, and the connections to all peers. The
// mapping that the rendezvous observes is therefore the mapping that peers
// reach.
//
// A program signs in once and then connects to as many peers as it likes:
//
//	c, err := client.SignIn(ctx, client.Config{URL: url, Group: "job-1", Name: "map-3"})
//	defer c.Close()
//	conn, err := c.Connect(ctx, "reduce-0", client.WaitForPeer(10*time.Second))
//	stream, err := conn.OpenStream(ctx)
//
// The other side gets the same connection from [Client.Accept]. Groups of peers
// connect at once with [Client.Mesh] and [Client.Bipartite].
//
// Connect returns as soon as the TLS handshake is complete, one round trip to
// the server and one to the peer after the call. Both sides then prove in the
// background that full-size packets pass both ways; [Conn.Proven] waits for
// that. A connection that fails its proof is closed with an [Error].
//
// A connection carries any number of streams and datagrams. [Conn.DialStream] and
// [Conn.Listener] give streams as net.Conns, so that HTTP and gRPC run over them as the
// examples show; [Conn.Stats] says what has passed and how the path is doing.
//
// On Linux the socket that Config.PacketConn gives, if it is a *net.UDPConn, and the
// client's own have UDP_GRO set, by which the kernel hands packets over in runs.
//
// A lost control connection comes back by itself; connections to peers do not
// depend on it and outlive restarts of the rendezvous.
//
// The package writes no logs. (quic-go prints one line to standard error where
// the system refuses larger socket buffers, unless the environment has
// QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true.) Failures are values of type [*Error] with a
// [protocol.Reason]; everything else that may be of interest is an [Event].
package client
