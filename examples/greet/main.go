// Greet is the smallest Lambda function that talks to another one: this file is all of it. To run it twice in a local
// Lambda service, each time behind a NAT of its own:
//
//	go run ./examples/greet/try
//
// On AWS, with a rendezvous as in docs/deploy.md:
//
//	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -tags lambda.norpc -o bootstrap ./examples/greet && zip greet.zip bootstrap
//	aws lambda create-function --function-name greet --runtime provided.al2023 --architectures arm64 --handler bootstrap --timeout 30 --zip-file fileb://greet.zip --role ROLE
//	aws ssm get-parameter --name /bradawl/url --with-decryption --query "{url: Parameter.Value, name: 'bob'}" --output json | aws lambda invoke --function-name greet --payload file:///dev/stdin --cli-binary-format raw-in-base64-out bob.json
//
// The last line twice at the same time: as it stands, and with name: 'alice', peer: 'bob' at the query's end.
package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/lambdaclient"
)

// event says who the function is and whom to greet; without a peer it waits to be greeted.
type event struct {
	// URL is the connection string; empty: the variable BRADAWL_URL.
	URL  string `json:"url,omitempty"`
	Name string `json:"name"`
	Peer string `json:"peer,omitempty"`
}

// answer is what the function heard, and from which address the rendezvous saw it.
type answer struct {
	Heard   string `json:"heard"`
	Address string `json:"address"`
}

// function signs in, and greets or is greeted.
func function(ctx context.Context, s *lambdaclient.Session, in event) (out answer, err error) {
	url := in.URL
	if url == "" {
		url = os.Getenv("BRADAWL_URL")
	}
	c, err := s.SignIn(ctx, client.Config{URL: url, Group: "greet", Name: in.Name})
	if err != nil {
		return out, err
	}
	out.Address = c.Status().Observed.String()
	if in.Peer == "" {
		out.Heard, err = listen(ctx, c)
	} else {
		out.Heard, err = greet(ctx, c, in.Name, in.Peer)
	}
	return out, err
}

// greet says who it is and returns the reply.
func greet(ctx context.Context, c *client.Client, name, peer string) (string, error) {
	conn, err := c.Connect(ctx, peer, client.WaitForPeer(10*time.Second))
	if err != nil {
		return "", err // says why: client.ReasonOf(err)
	}
	defer conn.Close()
	stream, err := conn.OpenStream(ctx)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(stream, name); err != nil {
		return "", err
	}
	if err := stream.Close(); err != nil { // this direction is done; the other is not
		return "", err
	}
	reply, err := io.ReadAll(stream)
	return string(reply), err
}

// listen hears who greets and replies.
func listen(ctx context.Context, c *client.Client) (string, error) {
	conn, err := c.Accept(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return "", err
	}
	name, err := io.ReadAll(stream)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(stream, "hello "+string(name)); err != nil {
		return "", err
	}
	if err := stream.Close(); err != nil {
		return "", err
	}
	<-conn.Context().Done() // who greets closes when it has the reply; returning would freeze us before that
	return string(name), nil
}

func main() { lambdaclient.Start(function) }
