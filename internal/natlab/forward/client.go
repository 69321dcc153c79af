package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Client commands a forwarder. Its methods may be called from several goroutines at once.
type Client struct {
	mu    sync.Mutex
	out   *json.Encoder
	in    *json.Decoder
	pairs int
}

// NewClient returns a client that writes to the standard input of the forwarder's process
// and reads from its standard output.
func NewClient(out io.Writer, in io.Reader) *Client {
	return &Client{out: json.NewEncoder(out), in: json.NewDecoder(in)}
}

func (c *Client) call(r request) (reply, error) {
	var answer reply
	if err := c.out.Encode(r); err != nil {
		return answer, fmt.Errorf("command the packet forwarder: %w", err)
	}
	if err := c.in.Decode(&answer); err != nil {
		return answer, fmt.Errorf("the packet forwarder has ended: %w", err)
	}
	if answer.Error != "" {
		return answer, errors.New(answer.Error)
	}
	return answer, nil
}

// Add begins to forward between links a and b of the forwarder's namespace, which are up and have
// the MTU. It returns the pair's number.
func (c *Client) Add(a, b string, mtu int, s Shape) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pairs++
	_, err := c.call(request{Do: "add", Pair: c.pairs, A: a, B: b, MTU: mtu, Shape: s})
	return c.pairs, err
}

// Reshape changes what happens to frames that arrive from now on.
func (c *Client) Reshape(pair int, s Shape) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.call(request{Do: "shape", Pair: pair, Shape: s})
	return err
}

// Remove ends a pair. Frames under way are lost.
func (c *Client) Remove(pair int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.call(request{Do: "remove", Pair: pair})
	return err
}

// Stats returns a pair's counts, from a to b and from b to a.
func (c *Client) Stats(pair int) (ab, ba Stats, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.call(request{Do: "stats", Pair: pair})
	return r.Stats[0], r.Stats[1], err
}
