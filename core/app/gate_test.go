package app

import (
	"log/slog"
	"testing"
	"time"

	"github.com/hookline/hookline/core/config"
)

// A reload that changes nothing of a transport keeps its gate, and with it the count of
// what is under way; without a journal too, where the circuit is left out.
func TestGateIsKept(t *testing.T) {
	a := &App{log: slog.New(slog.DiscardHandler), gates: map[string]gate{}}
	ehr := config.Transport{Name: "ehr", Concurrency: 4, Circuit: config.Circuit{Failures: 10, Pause: time.Second}}
	first := a.gate(ehr)
	if a.gate(ehr) != first {
		t.Error("nothing has changed, and there is another gate")
	}
	ehr.Concurrency = 5
	if a.gate(ehr) == first {
		t.Error("another concurrency, and the same gate")
	}
}
