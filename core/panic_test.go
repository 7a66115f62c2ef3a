package core

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// panicky panics at the first attempt.
type panicky struct{ attempts int }

func (p *panicky) Deliver(context.Context, *transport.Message) transport.Receipt {
	if p.attempts++; p.attempts == 1 {
		panic("the first")
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
}

// A panic in an attempt does not keep its place at the transport.
func TestPanicGivesItsPlaceBack(t *testing.T) {
	route := &Route{Name: "ehr", Hooks: []string{"*"}, Timeout: time.Second, Transport: &Transport{
		Name: "ehr", Label: "EHR", Sender: &panicky{}, Gate: NewGate(GateOptions{Concurrency: 1}),
	}}
	d := &Dispatcher{Router: &Router{Routes: []*Route{route}}, Log: slog.New(slog.DiscardHandler)}
	for _, want := range []Code{Internal, transport.Delivered} {
		ev := &Event{Kind: Insert, TransID: "435", FormID: "319"}
		ev.Stamp(&Hook{Name: "demo", Timeout: time.Second}, time.Now())
		got, err := d.Dispatch(Arrival{Event: ev})
		if err != nil || got.Outcomes[0].Code != want {
			t.Errorf("%+v, %v; want %s", got.Outcomes[0], err, want)
		}
	}
}
