package client_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// A gRPC server on one side of a connection, a gRPC client on the other. The
// connection is encrypted and authenticated both ways, so gRPC adds no credentials.
func ExampleConn_DialStream_grpc() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	url, stop := exampleURL()
	defer stop()
	here, there, leave := examplePair(ctx, url)
	defer leave()

	// On bob's side.
	srv := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	go func() { _ = srv.Serve(there.Listener()) }()
	defer srv.Stop()

	// On alice's side. "passthrough" keeps gRPC from resolving a name that only the dialler knows.
	cc, err := grpc.NewClient("passthrough:///bob",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return here.DialStream(ctx) }),
		grpc.WithWriteBufferSize(128<<10), // large writes are faster
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cc.Close()
	reply, err := grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	fmt.Println(reply.GetStatus(), err)
	// Output: SERVING <nil>
}
