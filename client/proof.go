package client

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
)

// The proof stream is the first unidirectional stream of each side:
//
//	0            4                       1404     1405
//	+------------+-----------------------+--------+
//	| "BRPF"     | padding (1400)        | 0x01   | FIN
//	+------------+-----------------------+--------+
//
// The padding fills packets of full size in both directions. It is a keystream,
// AES-128 in counter mode, so that it costs next to nothing. Key and first
// counter block are HKDF-Expand-SHA256 (RFC 5869) of the session's key, with the
// sender's role in the info, so that it cannot be an echo. The byte 0x01 follows
// when the sender has read and checked the other side's padding: both sides then
// know that both directions work.
const (
	proofMagic   = "BRPF"
	proofPadding = 1400 // more than the 1,249 bytes that fit into a packet before the path's MTU is known
	proofDone    = 0x01
	proofLimit   = 3 * time.Second
)

// proofBytes fails for no key; the libraries below only say that it could.
func proofBytes(key protocol.SessionKey, dialler bool) ([]byte, error) {
	info := "bradawl/1 proof of the listener"
	if dialler {
		info = "bradawl/1 proof of the dialler"
	}
	seed, err := hkdf.Expand(sha256.New, key[:], info, 2*aes.BlockSize)
	if err != nil {
		return nil, fmt.Errorf("make proof: %w", err)
	}
	block, err := aes.NewCipher(seed[:aes.BlockSize])
	if err != nil {
		return nil, fmt.Errorf("make proof: %w", err)
	}
	out := make([]byte, len(proofMagic)+proofPadding)
	pad := out[copy(out, proofMagic):]
	cipher.NewCTR(block, seed[aes.BlockSize:]).XORKeyStream(pad, pad)
	return out, nil
}

var (
	errProofStream  = errors.New("the other side's proof differs from what the session's key demands")
	errProofRefused = errors.New("another connection of the session is used")
)

// proof is the exchange that shows that full-size packets pass both ways.
type proof struct {
	qc      *quic.Conn
	key     protocol.SessionKey
	dialler bool
	// patient writes nothing before the other side's padding was checked, and then all at once: fewer packets, maybe later ones.
	// Only one side may be so.
	patient bool

	out     *quic.SendStream
	openErr error
	checked bool // the other side's padding was right; read after exchange

	accepted     chan struct{} // closed when the other side's stream was taken
	acceptedOnce sync.Once
	done         chan struct{}
	err          *Error // set before done is closed
	doneOnce     sync.Once
}

func newProof(qc *quic.Conn, key protocol.SessionKey, dialler bool) *proof {
	return &proof{qc: qc, key: key, dialler: dialler, accepted: make(chan struct{}), done: make(chan struct{})}
}

// open opens the own stream, which must be the connection's first. It does not block.
func (p *proof) open() { p.out, p.openErr = p.qc.OpenUniStream() }

func (p *proof) end(err *Error) {
	p.doneOnce.Do(func() {
		p.err = err
		close(p.done)
	})
}

// exchange runs both directions. checked is called when the other side's
// padding was right; the exchange goes on if it returns true.
func (p *proof) exchange(ctx context.Context, limit time.Duration, checked func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if p.out == nil && p.openErr == nil {
		p.open()
	}
	if p.openErr != nil {
		return p.openErr
	}
	deadline, _ := ctx.Deadline()
	_ = p.out.SetWriteDeadline(deadline)
	defer func() { _ = p.out.SetWriteDeadline(time.Time{}) }()

	b, err := proofBytes(p.key, p.dialler)
	if err != nil {
		return err
	}
	wrote := make(chan error, 1)
	rest := append(b, proofDone)
	if p.patient {
		wrote <- nil
	} else {
		rest = rest[len(b):]
		go func() {
			_, err := p.out.Write(b)
			wrote <- err
		}()
	}
	err = p.read(ctx, func() error {
		if err := <-wrote; err != nil {
			wrote <- err
			return err
		}
		wrote <- nil
		if !checked() {
			return errProofRefused
		}
		p.checked = true
		if _, err := p.out.Write(rest); err != nil {
			return err
		}
		return p.out.Close()
	})
	if err != nil {
		p.out.CancelWrite(CodeProofFailed)
	}
	<-wrote
	return err
}

// read checks the other side's stream and calls half way when its padding is complete.
func (p *proof) read(ctx context.Context, halfway func() error) error {
	in, err := p.qc.AcceptUniStream(ctx)
	if err != nil {
		return err
	}
	p.acceptedOnce.Do(func() { close(p.accepted) })
	stop := context.AfterFunc(ctx, func() { _ = in.SetReadDeadline(time.Now()) })
	defer stop()
	want, err := proofBytes(p.key, !p.dialler)
	if err == nil {
		err = readProof(in, want, halfway)
	}
	if err != nil {
		in.CancelRead(CodeProofFailed)
	}
	return err
}

// readProof compares a proof stream with what it must be.
func readProof(in io.Reader, want []byte, halfway func() error) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil {
		return fmt.Errorf("read proof: %w", err)
	}
	if !bytes.Equal(got, want) {
		return errProofStream
	}
	if err := halfway(); err != nil {
		return err
	}
	// One byte and the end; a longer stream is as wrong as another byte.
	n, err := io.ReadFull(in, got[:2])
	switch {
	case n == 1 && got[0] == proofDone && errors.Is(err, io.ErrUnexpectedEOF):
		return nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errProofStream
	}
	return fmt.Errorf("read proof: %w", err)
}
