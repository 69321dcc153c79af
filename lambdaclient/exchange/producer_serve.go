package exchange

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// requestTimeout bounds the time from the opening of a stream to its request.
	requestTimeout = 10 * time.Second
	// requestsPerLink bounds the requests served at once on one link.
	requestsPerLink = 16
	// maxLinkResults bounds a report.
	maxLinkResults = 4096
)

// followCollective serves the links of the collective as they come.
func (p *Producer) followCollective() {
	for {
		ev, err := p.col.next(p.ctx)
		if err != nil {
			p.noMoreLinks(err)
			return
		}
		if ev.err != nil {
			p.linkFailed(ev.peer, ev.err)
			continue
		}
		p.serve(ev.link, false)
	}
}

// acceptLinks serves the links that consumers make anew.
func (p *Producer) acceptLinks() {
	for {
		l, err := p.col.accept(p.ctx)
		if err != nil {
			return
		}
		p.serve(l, true)
	}
}

// noMoreLinks counts every consumer without a link as failed.
func (p *Producer) noMoreLinks(err error) {
	if p.ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	for i := range p.consumers {
		p.consumers[i].failed = true
	}
	p.noteLinkLocked(LinkResult{Failure: err.Error()})
	p.mu.Unlock()
	p.wake()
}

func (p *Producer) noteLinkLocked(r LinkResult) {
	if len(p.report.Links) < maxLinkResults {
		p.report.Links = append(p.report.Links, r)
	}
}

// consumerOf reads a consumer's index from its name.
func (p *Producer) consumerOf(peer string) (int, bool) {
	i, _, ok := p.shuffle.ParseConsumer(peer)
	return i, ok && i >= 0 && i < len(p.consumers)
}

func (p *Producer) linkFailed(peer string, err error) {
	i, ok := p.consumerOf(peer)
	if !ok {
		return
	}
	p.mu.Lock()
	p.consumers[i].failed = true
	p.noteLinkLocked(LinkResult{Peer: peer, Failure: err.Error()})
	p.mu.Unlock()
	p.wake()
}

// serve answers requests on l, in the background, until it is lost.
func (p *Producer) serve(l link, again bool) {
	i, ok := p.consumerOf(l.peer())
	if !ok {
		l.close(closeGone, "no consumer of this exchange")
		return
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.close(closeGone, "the producer is closed")
		return
	}
	p.links[l] = i
	p.consumers[i].live++
	p.consumers[i].failed = false
	p.noteLinkLocked(LinkResult{Peer: l.peer(), Again: again, Path: l.path(), Connect: l.connectDuration()})
	p.mu.Unlock()
	p.wake()
	p.wg.Go(func() {
		p.answerAll(l, i)
		p.mu.Lock()
		delete(p.links, l)
		c := &p.consumers[i]
		c.live--
		if c.live == 0 && p.ctx.Err() == nil {
			c.failed = true
			if !c.acked() {
				p.report.Lost++
			}
		}
		p.mu.Unlock()
		p.wake()
	})
}

func (p *Producer) answerAll(l link, consumer int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, requestsPerLink)
	for {
		select {
		case slots <- struct{}{}:
		case <-l.done():
			return
		case <-p.ctx.Done():
			<-l.done() // Close says goodbye on it
			return
		}
		s, err := l.accept(p.ctx)
		if err != nil {
			if p.ctx.Err() != nil {
				<-l.done()
			}
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			p.answer(l, s, consumer)
		})
	}
}

// answer serves one request. Failures concern that request only: the consumer
// sees its stream end early, and tries again.
func (p *Producer) answer(l link, s stream, consumer int) {
	stop := context.AfterFunc(p.ctx, func() { s.CancelRead(streamEnded); s.CancelWrite(streamEnded) })
	defer stop()
	defer s.CancelRead(streamEnded)
	_ = s.SetReadDeadline(time.Now().Add(requestTimeout))
	t, b, err := readFrame(s, nil)
	if err != nil {
		s.CancelWrite(streamEnded)
		return
	}
	if t != frameFetch && t != frameAck {
		p.refuse(s, refusedOther, fmt.Sprintf("a frame of type %d is no request", t))
		return
	}
	q := parseRequest(b)
	switch {
	case q.job != p.digest:
		p.refuse(s, refusedOther, "the request belongs to another job")
		return
	case int64(q.producer) != int64(p.cfg.Producer):
		p.refuse(s, refusedOther, fmt.Sprintf("this is producer %d, not %d", p.cfg.Producer, q.producer))
		return
	case int64(q.partition) != int64(consumer):
		p.refuse(s, refusedOther, fmt.Sprintf("partition %d is not for %s", q.partition, l.peer()))
		return
	}
	if t == frameAck {
		p.acknowledge(s, consumer)
		return
	}
	if int64(q.attempt) != int64(p.cfg.Attempt) {
		p.refuse(s, refusedAttempt, fmt.Sprintf("this is attempt %d, not %d", p.cfg.Attempt, q.attempt))
		return
	}
	select {
	case <-p.finished:
	case <-s.Context().Done(): // the consumer does not want it any more
		return
	case <-l.done():
		return
	case <-p.ctx.Done():
		return
	}
	if err := p.send(s, p.parts[consumer], q.offset); err != nil {
		s.CancelWrite(streamEnded)
	}
}

func (p *Producer) refuse(s stream, code uint32, why string) {
	if _, err := s.Write(refusedFrame(code, why)); err == nil {
		_ = s.Close()
	}
}

func (p *Producer) acknowledge(s stream, consumer int) {
	if _, err := s.Write(sealFrame(make([]byte, headerLen), frameAcked)); err == nil {
		_ = s.Close()
	}
	p.mu.Lock()
	if c := &p.consumers[consumer]; !c.acked() {
		c.ackedAt = time.Now()
	}
	p.mu.Unlock()
	p.wake()
}

// send writes a partition from offset on.
func (p *Producer) send(s stream, part *partition, offset uint64) error {
	if offset > uint64(part.size) {
		p.refuse(s, refusedRange, fmt.Sprintf("offset %d is beyond the end at %d", offset, part.size))
		return nil
	}
	p.mu.Lock()
	p.report.Direct.Requests++
	p.mu.Unlock()
	off := int64(offset)
	if _, err := s.Write(part.head(p.cfg.Attempt).frame(off)); err != nil {
		return err
	}
	frame := make([]byte, headerLen+maxData)
	for off < part.size {
		n := min(maxData-off%maxData, part.size-off) // in step with the chunks
		if _, err := part.ReadAt(frame[headerLen:headerLen+n], off); err != nil {
			return err
		}
		if _, err := s.Write(sealFrame(frame[:headerLen+n], frameData)); err != nil {
			return err
		}
		off += n
		p.mu.Lock()
		p.report.Direct.Bytes += n
		p.mu.Unlock()
	}
	return s.Close()
}
