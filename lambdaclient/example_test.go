package lambdaclient_test

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/lambdaclient"
)

// Event is the payload of the example's invocations.
type Event struct{ Job, Name, Peer string }

// A function that asks another one something and returns its answer. It is the bootstrap of a Lambda function with
// the connection string in its environment.
func ExampleStart() {
	handler := func(ctx context.Context, s *lambdaclient.Session, in Event) (string, error) {
		c, err := s.SignIn(ctx, client.Config{URL: os.Getenv("BRADAWL_URL"), Group: in.Job, Name: in.Name})
		if err != nil {
			return "", err
		}
		conn, err := c.Connect(ctx, in.Peer, client.WaitForPeer(10*time.Second))
		if err != nil {
			return "", err // says why: client.ReasonOf(err)
		}
		defer conn.Close()
		stream, err := conn.OpenStream(ctx)
		if err != nil {
			return "", err
		}
		if _, err := io.WriteString(stream, in.Name); err != nil {
			return "", err
		}
		if err := stream.Close(); err != nil { // no more to say; the answer is still to come
			return "", err
		}
		answer, err := io.ReadAll(stream)
		return string(answer), err
	}
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		lambdaclient.Start(handler)
	}
	// Output:
}
