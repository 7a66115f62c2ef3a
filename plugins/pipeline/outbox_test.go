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
	for _, how := range []pipeline.Together[frame]{together, {}} {
		s := newSent()
		o := pipeline.NewOutbox(s.send, how)
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
		if how.Join != nil {
			want = 2
		}
		if !slices.Equal(got, []uint64{1, 2, 3, 4}) || messages != want {
			t.Errorf("sent %d in %d messages, want %d", got, messages, want)
		}
	}
}

// After the end nothing is sent: not even what waited for it.
func TestOutboxEnds(t *testing.T) {
	s := newSent()
	o := pipeline.NewOutbox(s.send, together)
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
	}, together)
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

// A message does not grow beyond measure.
func TestOutboxOfLarge(t *testing.T) {
	s := newSent()
	o := pipeline.NewOutbox(s.send, pipeline.Together[frame]{Join: together.Join, Size: func(*frame) int { return 1 << 20 }})
	var sender sync.WaitGroup
	sender.Go(func() { o.Send(&frame{call: 1}) })
	for id := uint64(1); id <= 3; id++ {
		f := <-s.begun
		if f.call != id || f.more != nil {
			t.Errorf("%+v", f)
		}
		if id == 1 {
			o.Send(&frame{call: 2})
			o.Send(&frame{call: 3})
		}
		s.let <- struct{}{}
	}
	sender.Wait()
}
