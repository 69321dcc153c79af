package s3lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
	"golang.org/x/sys/unix"
)

// childVariable marks the environment of a server process.
const childVariable = "BRADAWL_S3LAB_CHILD"

// order is what the parent writes to the child's standard input, one JSON
// value each: first a start order, then faults and requests for the counts. The end of
// the input is the end of the parent.
type order struct {
	ID    uint64     `json:"id,omitempty"` // chosen by the parent, comes back in the reply
	Start *startWith `json:"start,omitempty"`
	Fault *Fault     `json:"fault,omitempty"` // to be injected before the counts are taken
}

// startWith is everything a server process needs to know.
type startWith struct {
	Dir       string         `json:"dir"`
	Listen    netip.AddrPort `json:"listen"`
	Region    string         `json:"region"`
	AccessKey string         `json:"access_key"`
	SecretKey string         `json:"secret_key"`
	Model     *Model         `json:"model,omitempty"`
}

// reply is what the child writes to its standard output, one JSON value each.
type reply struct {
	ID    uint64          `json:"id,omitempty"`
	Ready *netip.AddrPort `json:"ready,omitempty"`
	Error string          `json:"error,omitempty"`
	Stats *Stats          `json:"stats,omitempty"`
}

// Child runs the server and never returns if this process was started by
// [Start] for that purpose; otherwise it returns at once. A program that uses
// the lab calls it before it does anything else.
func Child() {
	if os.Getenv(childVariable) == "" {
		return
	}
	replies, err := keepOutput()
	if err == nil {
		err = serve(os.Stdin, replies)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keepOutput returns the standard output for replies alone, and lets what the
// gateway prints there go to the standard error.
func keepOutput() (io.Writer, error) {
	fd, err := unix.FcntlInt(os.Stdout.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("s3lab: keep the reply pipe: %w", err)
	}
	if err := unix.Dup3(int(os.Stderr.Fd()), int(os.Stdout.Fd()), 0); err != nil {
		return nil, fmt.Errorf("s3lab: redirect the standard output: %w", err)
	}
	return os.NewFile(uintptr(fd), "replies"), nil
}

// replier writes replies from several goroutines.
type replier struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (r *replier) send(v reply) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enc.Encode(v)
}

// serve runs the gateway until the input ends, which is not an error: objects
// are renamed into place whole, so there is nothing to wind down.
func serve(in io.Reader, out io.Writer) error {
	orders := json.NewDecoder(in)
	var first order
	if err := orders.Decode(&first); err != nil {
		return fmt.Errorf("s3lab: read the start order: %w", err)
	}
	if first.Start == nil {
		return errors.New("s3lab: the first order is not a start order")
	}

	replies := &replier{enc: json.NewEncoder(out)}
	count := newCounter(first.Start.Model)
	failed := make(chan error, 1)
	go func() {
		err := runGateway(context.Background(), *first.Start, count, replies)
		if err == nil {
			err = errors.New("s3lab: the gateway ended by itself")
		}
		// The parent learns the reason even where the pipe's other end is
		// gone: it then sees the last lines of the standard error.
		_ = replies.send(reply{Error: err.Error()})
		failed <- err
	}()

	asked := make(chan order)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var o order
			if orders.Decode(&o) != nil {
				return
			}
			asked <- o
		}
	}()
	for {
		select {
		case o := <-asked:
			if o.Fault != nil {
				count.faults.add(*o.Fault)
			}
			s := count.stats()
			if err := replies.send(reply{ID: o.ID, Stats: &s}); err != nil {
				return fmt.Errorf("s3lab: reply with the counts: %w", err)
			}
		case err := <-failed:
			return err
		case <-ended:
			return nil
		}
	}
}

func runGateway(ctx context.Context, cfg startWith, count *counter, replies *replier) error {
	store, err := openStore(cfg.Dir)
	if err != nil {
		return err
	}
	addr, release, err := reservePort(cfg.Listen)
	if err != nil {
		return err
	}
	defer release()
	err = embedgw.RunVersityGW(ctx, &countingBackend{Backend: store, counter: count}, &embedgw.Config{
		RootUserAccess:    cfg.AccessKey,
		RootUserSecret:    cfg.SecretKey,
		Region:            cfg.Region,
		Ports:             []string{addr.String()},
		MaxConnections:    1 << 16,
		MaxRequests:       1 << 14,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		Quiet:             true,
		S3Options: []s3api.Option{
			s3api.WithMiddleware("/", count.handle),
			s3api.WithOnListen(func() { _ = replies.send(reply{Ready: &addr}) }),
		},
	})
	if err != nil {
		return fmt.Errorf("s3lab: run the gateway on %s: %w", addr, err)
	}
	return nil
}

// openStore opens the objects below dir. Their attributes are extended
// attributes where the file system has them, and files beside the objects
// where it has not, as on some tmpfs.
func openStore(dir string) (backend.Backend, error) {
	data, side := filepath.Join(dir, "objects"), filepath.Join(dir, "attributes")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("s3lab: make the objects' directory: %w", err)
	}
	var attributes meta.MetadataStorer = meta.XattrMeta{}
	opts := posix.PosixOpts{CopyObjectThreshold: 5 << 30} // as S3's own limit
	_, statErr := os.Stat(side)
	if statErr == nil || !hasUserXattr(data) {
		if err := os.MkdirAll(side, 0o700); err != nil {
			return nil, fmt.Errorf("s3lab: make the attributes' directory: %w", err)
		}
		sidecar, err := meta.NewSideCar(side)
		if err != nil {
			return nil, fmt.Errorf("s3lab: open the attributes' directory %s: %w", side, err)
		}
		attributes, opts.SideCarDir = sidecar, side
	}
	store, err := posix.New(data, attributes, opts)
	if err != nil {
		return nil, fmt.Errorf("s3lab: open the objects' directory %s: %w", data, err)
	}
	return store, nil
}

// hasUserXattr reports whether this process can give files in dir extended
// attributes of its own. It tries, because asking for one that does not exist
// succeeds on file systems that then refuse to store one.
func hasUserXattr(dir string) bool {
	const name = "user.s3lab.probe"
	if unix.Setxattr(dir, name, []byte("1"), 0) != nil {
		return false
	}
	return unix.Removexattr(dir, name) == nil
}
