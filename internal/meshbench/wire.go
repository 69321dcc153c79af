package main

import (
	"encoding/json"
	"time"
)

// The parent and its peers speak lines of JSON over the peers' standard input and output:
//
//	parent: setup   peer: ready     signed in, or listening
//	parent: targets peer: ready     NATs are open (bare only)
//	parent: go      peer: done      all links, or the time is over
//	parent: end of input            the peer leaves

// setup tells a peer who it is.
type setup struct {
	Contestant string        `json:"contestant"`
	Shape      string        `json:"shape"`
	SizeA      int           `json:"size_a"`
	SizeB      int           `json:"size_b"`
	Name       string        `json:"name"`
	Role       string        `json:"role,omitempty"`
	Links      int           `json:"links"`
	URL        string        `json:"url,omitempty"`
	Addr       string        `json:"addr"` // the host's own
	Timeout    time.Duration `json:"timeout"`
	AtOnce     int           `json:"at_once"` // bare: dials under way at once; 0: all
	Profile    string        `json:"profile,omitempty"`
}

// ready is a peer's answer to setup and targets.
type ready struct {
	Err         string `json:"err,omitempty"`
	Port        uint16 `json:"port"`
	Fingerprint []byte `json:"fingerprint,omitempty"`
}

// target is another peer of a bare one.
type target struct {
	Addr        string `json:"addr"`
	Fingerprint []byte `json:"fingerprint"`
	Dial        bool   `json:"dial"` // else it dials us
}

// done is what a peer has seen between go and its last link.
type done struct {
	Links    int           `json:"links"`
	Failures int           `json:"failures"`
	Err      string        `json:"err,omitempty"` // of the first failure
	Took     time.Duration `json:"took"`
	CPU      time.Duration `json:"cpu"`
	Drops    int           `json:"drops"`   // packets that the kernel dropped at full sockets
	Packets  int           `json:"packets"` // sent
	Attempts int           `json:"attempts"`
}

// lines sends and receives messages.
type lines struct {
	enc *json.Encoder
	dec *json.Decoder
}
