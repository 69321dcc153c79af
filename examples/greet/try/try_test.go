package main

import (
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
)

func TestMain(m *testing.M) { natlab.Main(m) }

func TestOneFunctionGreetsTheOther(t *testing.T) {
	t.Parallel()
	natlab.Require(t)
	all, err := try(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bob, alice := all[0], all[1]
	if bob.Heard != "alice" || alice.Heard != "hello alice" {
		t.Errorf("bob heard %q, alice %q", bob.Heard, alice.Heard)
	}
	if bob.Address == alice.Address || bob.Address == "" {
		t.Errorf("bob is at %q, alice at %q", bob.Address, alice.Address)
	}
}
