package core

import (
	"testing"
	"testing/synctest"
	"time"
)

// The background looks for what is due again and again; what it does not find must
// not count against the rate of the events that are sent.
func TestLookingCostsNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Concurrency: 10, Rate: 2})
		for range 5 {
			n, _ := g.reserve(10)
			if n != 2 {
				t.Fatalf("%d turns, want 2", n)
			}
			g.unused(n)
		}
		// One of two is used.
		if n, _ := g.reserve(10); n != 2 {
			t.Fatalf("%d turns, want 2", n)
		}
		g.unused(1)
		begin := time.Now()
		for range 3 {
			done, err := g.enter(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			done(false)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("one turn at once and two more took %v, want 1s", took)
		}
	})
}
