package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// PackConfig says how to pack.
type PackConfig struct {
	// Splits is the number of splits to make, at least 1.
	Splits int
	// ObjectSize is how many bytes go into one object. 0: 32 MiB.
	ObjectSize int
	// Parallel is how many uploads run at once. 0: 4.
	Parallel int
	// Prefix begins the objects' keys.
	Prefix string
	// Put stores one object. It is called from several goroutines; body is
	// valid until it returns.
	Put func(ctx context.Context, key string, body []byte) error
	// Progress is told the bytes packed so far, if set, from one goroutine.
	Progress func(done int64)
}

// Packed is the result of Pack.
type Packed struct {
	Splits  []Split
	Files   int
	Bytes   int64
	Objects int
}

// Pack reads all files and stores them. The first error ends it.
func Pack(ctx context.Context, files []File, cfg PackConfig) (Packed, error) {
	if cfg.Splits < 1 {
		return Packed{}, fmt.Errorf("cannot cut the input into %d splits", cfg.Splits)
	}
	if cfg.ObjectSize == 0 {
		cfg.ObjectSize = 32 << 20
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 4
	}
	p := packer{cfg: cfg, lineStart: true}
	p.uploads, ctx = errgroup.WithContext(ctx)
	// One buffer more than uploads: the one that is being filled.
	p.free = make(chan []byte, cfg.Parallel+1)
	for range cfg.Parallel + 1 {
		p.free <- nil
	}
	for _, f := range files {
		p.total += f.Size
	}
	err := p.files(ctx, files)
	if err == nil {
		err = p.ship(ctx)
	}
	// An upload's error is the cause where it made the reading stop.
	if uerr := p.uploads.Wait(); uerr != nil && (err == nil || errors.Is(err, uerr) || errors.Is(err, context.Canceled)) {
		err = uerr
	}
	if err != nil {
		return Packed{}, err
	}
	for len(p.cuts) < cfg.Splits-1 {
		p.cuts = append(p.cuts, p.size)
	}
	return Packed{Splits: p.splits(), Files: len(files), Bytes: p.size, Objects: len(p.objects)}, nil
}

// packer is a stream of files on its way into objects.
type packer struct {
	layout
	cfg       PackConfig
	total     int64 // the size that the listing promised
	lineStart bool  // the next byte begins a line
	buf       []byte
	free      chan []byte
	uploads   *errgroup.Group
}

func (p *packer) files(ctx context.Context, files []File) error {
	scratch := make([]byte, 256<<10)
	for _, f := range files {
		if err := p.file(ctx, f, scratch); err != nil {
			return fmt.Errorf("read input %s: %w", f.Name, plain(err))
		}
		if p.cfg.Progress != nil {
			p.cfg.Progress(p.size)
		}
	}
	return nil
}

func (p *packer) file(ctx context.Context, f File, scratch []byte) error {
	r, err := f.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	start := p.size
	for {
		n, err := r.Read(scratch)
		if aerr := p.append(ctx, scratch[:n]); aerr != nil {
			return aerr
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if p.size > start {
		p.ends = append(p.ends, p.size)
		p.lineStart = true
	}
	return nil
}

// append takes bytes of the current file and cuts where a split is full.
func (p *packer) append(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		take := len(data)
		if len(p.cuts) < p.cfg.Splits-1 {
			target := p.target(len(p.cuts) + 1)
			switch {
			case p.size >= target && p.lineStart:
				p.cuts = append(p.cuts, p.size)
				continue
			case p.size >= target:
				if i := bytes.IndexByte(data, '\n'); i >= 0 {
					take = i + 1
				}
			default:
				take = int(min(int64(take), target-p.size))
			}
		}
		if err := p.store(ctx, data[:take]); err != nil {
			return err
		}
		p.lineStart = data[take-1] == '\n'
		data = data[take:]
	}
	return nil
}

// target is where split number k should begin.
func (p *packer) target(k int) int64 {
	n := int64(p.cfg.Splits)
	return p.total/n*int64(k) + p.total%n*int64(k)/n
}

func (p *packer) store(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		if p.buf == nil {
			select {
			case b := <-p.free:
				if b == nil {
					b = make([]byte, 0, min(int64(p.cfg.ObjectSize), max(p.total-p.size, 64<<10)))
				}
				p.buf = b[:0]
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		take := min(len(data), p.cfg.ObjectSize-len(p.buf))
		p.buf = append(p.buf, data[:take]...)
		p.size += int64(take)
		data = data[take:]
		if len(p.buf) == p.cfg.ObjectSize {
			if err := p.ship(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// ship uploads the current buffer in the background.
func (p *packer) ship(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	body := p.buf
	if len(body) == 0 {
		return nil
	}
	p.buf = nil
	o := Range{
		Key:    fmt.Sprintf("%s%05d", p.cfg.Prefix, len(p.objects)),
		Offset: p.size - int64(len(body)),
		Length: int64(len(body)),
	}
	p.objects = append(p.objects, o)
	p.uploads.Go(func() error {
		defer func() { p.free <- body }()
		if err := p.cfg.Put(ctx, o.Key, body); err != nil {
			return fmt.Errorf("store packed input as %s: %w", o.Key, err)
		}
		return nil
	})
	return nil
}
