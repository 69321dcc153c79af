package lambdalab

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/bradawl/bradawl/internal/natlab"
)

func TestEnvironmentsAreBehindNATsOfTheirOwn(t *testing.T) {
	t.Parallel()
	natlab.Require(t)
	lab, err := natlab.New(natlab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	}()
	server, err := lab.AddHost("server")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := server.Listen("tcp", net.JoinHostPort(server.Addr().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()

	b := newBench(t, Config{Network: NAT(lab, natlab.NAT{}, natlab.Link{})})
	defer b.svc.Close() // before the lab's
	name := b.function("", Function{})
	const n = 12
	gate := filepath.Join(t.TempDir(), "gate")
	var results []func() (*lambda.InvokeOutput, error)
	begun := time.Now()
	for range n {
		results = append(results, b.inBackground(input(name, command{Do: "meet", Text: gate})))
	}
	envs := b.await(inState(Busy, n))
	t.Logf("%d environments behind NATs were started in %s", n, time.Since(begun))
	public := make(map[string]bool)
	for _, e := range envs {
		public[e.Place.(*NATPlace).Site().PublicAddr().String()] = true
	}
	if len(public) != n {
		t.Errorf("%d environments have %d public addresses", n, len(public))
	}
	b.svc.Reap("") // nothing is idle yet
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		if _, err := result(); err != nil {
			t.Fatal(err)
		}
	}

	// One connects to the server: it comes from its NAT's address.
	result := b.inBackground(input(name, command{Do: "dial", Text: ln.Addr().String()}))
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	word, err := bufio.NewReader(conn).ReadString('\n')
	conn.Close()
	if err != nil || word != "hello\n" {
		t.Errorf("got %q, %v", word, err)
	}
	from, _, _ := strings.Cut(conn.RemoteAddr().String(), ":")
	if !public[from] {
		t.Errorf("the connection came from %s, which is no NAT's address", from)
	}
	out, err := result()
	if err != nil {
		t.Fatal(err)
	}
	b.read(out)
}
