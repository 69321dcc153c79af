package lambdaclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/lambdalab"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/lambdaclient"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

// TestMain runs the function below when this program is started as an execution environment.
func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		lambdaclient.Start(greet)
	}
	natlab.Main(m)
}

// task tells the function who it is and whom to greet; without a peer it waits to be greeted.
type task struct{ URL, Name, Peer string }

type result struct {
	Cold     bool
	Observed string
	Greeting string
}

// greet is the function under test: it exchanges one message with a peer.
func greet(ctx context.Context, s *lambdaclient.Session, in task) (result, error) {
	c, err := s.SignIn(ctx, client.Config{URL: in.URL, Group: "g", Name: in.Name})
	if err != nil {
		return result{}, err
	}
	out := result{Cold: s.ColdStart(), Observed: c.Status().Observed.String()}
	if in.Peer == "" {
		conn, err := c.Accept(ctx)
		if err != nil {
			return out, err
		}
		defer conn.Close()
		stream, err := conn.AcceptStream(ctx)
		if err != nil {
			return out, err
		}
		b, err := io.ReadAll(stream)
		if err != nil {
			return out, err
		}
		out.Greeting = string(b)
		if _, err := stream.Write([]byte("hello " + out.Greeting)); err != nil {
			return out, err
		}
		if err := stream.Close(); err != nil {
			return out, err
		}
		<-conn.Context().Done() // the other side closes when it has read
		return out, nil
	}
	conn, err := c.Connect(ctx, in.Peer, client.WaitForPeer(10*time.Second))
	if err != nil {
		return out, err
	}
	defer conn.Close()
	stream, err := conn.OpenStream(ctx)
	if err != nil {
		return out, err
	}
	if _, err := stream.Write([]byte(in.Name)); err != nil {
		return out, err
	}
	if err := stream.Close(); err != nil {
		return out, err
	}
	b, err := io.ReadAll(stream)
	out.Greeting = string(b)
	return out, err
}

// cloud is a Lambda service whose functions sit behind NATs of their own, and a rendezvous.
type cloud struct {
	t          *testing.T
	lab        *natlab.Lab
	rendezvous *rendezvoustest.Server
	service    *lambdalab.Service
	sdk        *lambda.Client
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	natlab.Require(t)
	lab, err := natlab.New(natlab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	host, err := lab.AddHost("rendezvous")
	must(t, err)
	c := &cloud{t: t, lab: lab, rendezvous: rendezvoustest.Start(t, host)}
	c.service, err = lambdalab.New(lambdalab.Config{Network: lambdalab.NAT(lab, natlab.PortRestricted(), natlab.Link{})})
	must(t, err)
	t.Cleanup(func() { must(t, c.service.Close()) })
	self, err := os.Executable()
	must(t, err)
	must(t, c.service.CreateFunction(lambdalab.Function{Name: "greet", Command: []string{self}, Timeout: 30 * time.Second, MemoryMB: 512}))
	c.sdk = lambda.NewFromConfig(c.service.AWSConfig())
	return c
}

// invoke runs the function to its end.
func (c *cloud) invoke(ctx context.Context, in task) (result, error) {
	in.URL = c.rendezvous.URL()
	payload, err := json.Marshal(in)
	if err != nil {
		return result{}, err
	}
	out, err := c.sdk.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("greet"), Payload: payload})
	if err != nil {
		return result{}, err
	}
	if out.FunctionError != nil {
		return result{}, errors.New(string(out.Payload))
	}
	var r result
	return r, json.Unmarshal(out.Payload, &r)
}

// peer signs in from a public host, in this process.
func (c *cloud) peer(name string) *client.Client {
	c.t.Helper()
	host, err := c.lab.AddHost(name)
	must(c.t, err)
	pc, err := host.ListenUDP(netip.AddrPort{})
	must(c.t, err)
	p, err := client.SignIn(c.t.Context(), client.Config{URL: c.rendezvous.URL(), Group: "g", Name: name, PacketConn: pc, DialTCP: host.DialContext})
	must(c.t, err)
	c.t.Cleanup(func() { must(c.t, p.Close()) })
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
