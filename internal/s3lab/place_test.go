package s3lab

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/bradawl/bradawl/internal/natlab"
)

func TestServerRunsInANetworkLabsHost(t *testing.T) {
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
	public, err := lab.AddHost("s3")
	if err != nil {
		t.Fatal(err)
	}
	site, err := lab.AddSite(natlab.SiteConfig{Name: "home"})
	if err != nil {
		t.Fatal(err)
	}
	host, err := site.AddHost("client")
	if err != nil {
		t.Fatal(err)
	}
	srv, err := Start(t.Context(), Config{Dir: t.TempDir(), Listen: netip.AddrPortFrom(public.Addr(), 9000), Place: public})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close() // before the lab's
	if got, want := srv.Endpoint(), "http://"+public.Addr().String()+":9000"; got != want {
		t.Errorf("the endpoint is %s, want %s", got, want)
	}
	createBucket(t, srv.Client()) // from this process's place
	put(t, srv.Client(), "key", []byte("hello"))

	transport := &http.Transport{DialContext: host.DialContext}
	defer transport.CloseIdleConnections()
	behind := s3.NewFromConfig(srv.AWSConfig(), func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: transport} })
	if got := get(t, behind, "key", ""); string(got) != "hello" {
		t.Errorf("from behind the NAT: %q", got)
	}
}
