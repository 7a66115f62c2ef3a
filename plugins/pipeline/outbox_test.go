package pipeline_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/hookline/hookline/plugins/pipeline"
)

// sent collects messages, and lets each wait until the test lets it go.
type sent struct {
	begun chan *frame
	let   chan struct{}
}

func (s *sent) send(f *frame) error {
	s.begun <- f
	<-s.let
	return nil
}

func newSent() *sent { return &sent{begun: make(chan *frame), let: make(chan struct{})} }

// Who comes while another sends leaves its frame to it and goes on.
func TestOutbox(t *testing.T) {
	for _, together := range []bool{true, false} {
		s := newSent()
		var joins func(*frame, []*frame)
		if together {
			joins = join
		}
		o := pipeline.NewOutbox(s.send, joins)
		var sender sync.WaitGroup
		sender.Go(func() { o.Send(&frame{call: 1}) })
		first := <-s.begun
		for id := uint64(2); id <= 4; id++ {
			o.Send(&frame{call: id}) // it does not wait
		}
		s.let <- struct{}{}
		got, messages := []uint64{first.call}, 1
		for len(got) < 4 {
			f := <-s.begun
			for _, one := range append([]*frame{f}, f.more...) {
				got = append(got, one.call)
			}
			messages++
			s.let <- struct{}{}
		}
		sender.Wait()
		want := 4
		if together {
			want = 2
		}
		if !slices.Equal(got, []uint64{1, 2, 3, 4}) || messages != want {
			t.Errorf("together=%t: sent %d in %d messages", together, got, messages)
		}
	}
}

// After the end nothing is sent: not even what waited for it.
func TestOutboxEnds(t *testing.T) {
	s := newSent()
	o := pipeline.NewOutbox(s.send, join)
	var sender, end sync.WaitGroup
	sender.Go(func() { o.Send(&frame{call: 1}) })
	<-s.begun
	o.Send(&frame{call: 2})
	ended := make(chan struct{})
	end.Go(func() { o.End(); close(ended) })
	select {
	case <-ended:
		t.Error("it ended while a message was being sent")
	default:
	}
	s.let <- struct{}{}
	for going := true; going; {
		select {
		case <-s.begun: // the end had not begun yet
			s.let <- struct{}{}
		case <-ended:
			going = false
		}
	}
	sender.Wait()
	end.Wait()
	o.Send(&frame{call: 3}) // it would wait for ever
}

// Many at once lose nothing, and each goroutine's frames keep their order.
func TestOutboxOfMany(t *testing.T) {
	const senders, each = 16, 200
	last := map[uint64]uint64{}
	n := 0
	o := pipeline.NewOutbox(func(f *frame) error {
		for _, one := range append([]*frame{f}, f.more...) {
			if who, i := one.call/each, one.call%each; i != last[who] {
				t.Errorf("sender %d: frame %d instead of %d", who, i, last[who])
			} else {
				last[who]++
			}
			n++
		}
		return nil
	}, join)
	var all sync.WaitGroup
	for who := range uint64(senders) {
		all.Go(func() {
			for i := range uint64(each) {
				o.Send(&frame{call: who*each + i})
			}
		})
	}
	all.Wait()
	if n != senders*each {
		t.Errorf("%d of %d frames were sent", n, senders*each)
	}
}
