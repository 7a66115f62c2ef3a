package core

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// claimAtOnce bounds how many deliveries one claim takes, and with it what
	// memory their bodies need.
	claimAtOnce = 128
	// recoverEvery is how often a node looks for deliveries of nodes that died.
	recoverEvery = 5 * time.Second
	// claimEvery is the least time between two claims of a route: what becomes due
	// meanwhile goes along with the next. One by one they would cost more than the
	// deliveries themselves.
	claimEvery = 5 * time.Millisecond
	// afterTrouble is the pause after the journal could not be asked.
	afterTrouble = time.Second
)

// SchedulerOptions are what a Scheduler is made from.
type SchedulerOptions struct {
	Queue Queue
	Log   *slog.Logger
	// Poll is how often a route is looked at without being told to: what other
	// nodes queue is not heard here.
	Poll time.Duration
	// Shared: other nodes work on the same journal, and may die.
	Shared bool
}

// Scheduler makes the deliveries that no caller waits for. It lives as long as
// the process; a reload gives it another [Dispatcher].
type Scheduler struct {
	SchedulerOptions
	ctx    context.Context // ends when no more is to be claimed
	cancel context.CancelFunc
	loops  sync.WaitGroup
	brake  brake

	mu         sync.Mutex
	dispatcher *Dispatcher
	pumps      map[string]*pump
	turns      map[string][]*turn // by lane: who waits to become its head
}

// NewScheduler returns a Scheduler that does nothing until its first Use.
func NewScheduler(o SchedulerOptions) *Scheduler {
	s := &Scheduler{SchedulerOptions: o, pumps: map[string]*pump{}, turns: map[string][]*turn{}}
	s.brake.log = o.Log
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Use delivers by d from now on. What is under way ends by the dispatcher it
// began with, for which [Dispatcher.Wait] waits.
func (s *Scheduler) Use(d *Dispatcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.dispatcher == nil
	s.dispatcher = d
	for name, p := range s.pumps {
		if d.Router.find(name) == nil {
			p.stop()
			delete(s.pumps, name)
		}
	}
	for _, route := range d.Router.Routes {
		p := s.pumps[route.Name]
		if p == nil {
			p = &pump{s: s, route: route.Name, wake: make(chan struct{}, 1)}
			var ctx context.Context
			ctx, p.stop = context.WithCancel(s.ctx)
			s.pumps[route.Name] = p
			s.loops.Go(func() { p.run(ctx) })
		}
		route.Transport.Gate.onFreed(s.freed)
		p.hurry(0) // its timeout, transport or retry may have changed
	}
	if first {
		s.loops.Go(s.tend)
	}
	s.tidy(d)
}

// gone tells whether the route has left the configuration since the delivery
// began: nobody would try it again.
func (s *Scheduler) gone(route string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dispatcher != nil && s.dispatcher.Router.find(route) == nil
}

// Stop claims no more. What is under way goes on: see [Dispatcher.Wait].
func (s *Scheduler) Stop() {
	s.cancel()
	s.loops.Wait()
}

// Wake tells that a delivery is, or will be, due.
func (s *Scheduler) Wake(p Promotion) { s.wake(p) }

func (s *Scheduler) wake(p Promotion) {
	if s == nil || p.Due < 0 || p.Route == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if pump := s.pumps[p.Route]; pump != nil {
		pump.hurry(p.Due)
	}
}

// freed looks again at the routes that found no place in their transport's gate.
func (s *Scheduler) freed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pumps {
		if p.starved.CompareAndSwap(true, false) {
			p.hurry(0)
		}
	}
}

// current is the dispatcher, kept from being released until done is called.
func (s *Scheduler) current(name string) (d *Dispatcher, route *Route, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d = s.dispatcher
	d.jobs.Add(1)
	return d, d.Router.find(name), d.jobs.Done
}

// tend recovers the deliveries of nodes that have died.
func (s *Scheduler) tend() {
	ticker := time.NewTicker(recoverEvery)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		var hold []string
		for _, r := range s.dispatcher.Router.Routes {
			if r.HoldUnknown {
				hold = append(hold, r.Name)
			}
		}
		s.mu.Unlock()
		n, err := s.Queue.Recover(s.ctx, hold)
		if n > 0 {
			s.Log.Warn("deliveries were under way when their daemon ended: it is unknown whether they arrived", "deliveries", n)
			s.all()
		}
		if err == nil && !s.Shared {
			return // nobody else can die
		}
		select {
		case <-ticker.C:
		case <-s.ctx.Done():
			return
		}
	}
}

// tidy holds the deliveries of routes that are gone.
func (s *Scheduler) tidy(d *Dispatcher) {
	var routes []string
	for _, r := range d.Router.Routes {
		routes = append(routes, r.Name)
	}
	s.loops.Go(func() {
		n, err := s.Queue.HoldOthers(s.ctx, routes)
		switch {
		case s.ctx.Err() != nil:
		case err != nil:
			s.Log.Warn("the deliveries of routes that are gone could not be held: they are not sent, and the next reload tries again", "error", err)
		case n > 0:
			s.Log.Warn("deliveries are held because their route is not in the configuration: see `hookline deliveries list --state held`", "deliveries", n)
		}
	})
}

// all looks at every route.
func (s *Scheduler) all() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pumps {
		p.hurry(0)
	}
}

// pump moves the deliveries of one route.
type pump struct {
	s       *Scheduler
	route   string
	wake    chan struct{}
	stop    context.CancelFunc
	starved atomic.Bool // found no place in the gate

	mu   sync.Mutex
	next time.Time // when to look; zero is at once
}

// hurry makes the pump look at the latest then.
func (p *pump) hurry(due time.Duration) {
	at := time.Now().Add(due)
	p.mu.Lock()
	earlier := at.Before(p.next)
	if earlier {
		p.next = at
	}
	p.mu.Unlock()
	if earlier {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// idle makes it look after the poll interval, unless it is told to hurry.
func (p *pump) idle() {
	p.mu.Lock()
	p.next = time.Now().Add(p.s.Poll)
	p.mu.Unlock()
}

func (p *pump) due() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Until(p.next)
}

func (p *pump) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	for {
		select {
		case <-timer.C:
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		if due := max(p.due(), claimEvery-time.Since(last)); due > 0 {
			timer.Reset(due)
			continue
		}
		last = time.Now()
		p.idle() // before it looks: what becomes due meanwhile hurries it again
		p.move(ctx)
		timer.Reset(max(p.due(), 0)) // no sooner than claimEvery, see above
	}
}

// move claims what is due and starts it.
func (p *pump) move(ctx context.Context) {
	d, route, done := p.s.current(p.route)
	defer done()
	if route == nil {
		return
	}
	gate := route.Transport.Gate
	p.starved.Store(true) // before it looks: what is freed meanwhile hurries it again
	n, again := gate.reserve(claimAtOnce)
	if n == 0 {
		if again > 0 {
			p.starved.Store(false)
			p.hurry(again)
		}
		return
	}
	p.starved.Store(false)
	// Not ctx: what is claimed must be known, or nobody makes it.
	claimed, err := p.s.Queue.Claim(d.lease(), p.route, route.Transformer == nil, n)
	gate.leave(n - len(claimed))
	for _, del := range claimed {
		j := &job{Placement: Placement{Delivery: del}, route: route, start: time.Now(), held: gate.use()}
		d.jobs.Go(func() { d.run(d.lease(), j, false) })
	}
	switch {
	case err != nil:
		p.hurry(afterTrouble)
	case len(claimed) == n:
		p.hurry(0)
	default:
		if due, ok, err := p.s.Queue.Next(ctx, p.route); err != nil {
			p.hurry(afterTrouble)
		} else if ok {
			p.hurry(max(due, time.Millisecond))
		}
	}
}

// turn is where a waiting event hears what happens ahead of it.
type turn struct {
	head  atomic.Int64 // the lane's newest head, or stuck
	moved chan struct{}
}

// stuck: the head of the lane is not running any more, and has not ended.
const stuck = -1

// expect listens to a lane, from before the event is placed in it.
func (s *Scheduler) expect(lane string) *turn {
	t := &turn{moved: make(chan struct{}, 1)}
	s.mu.Lock()
	s.turns[lane] = append(s.turns[lane], t)
	s.mu.Unlock()
	return t
}

// expected tells whether somebody listens to the lane.
func (s *Scheduler) expected(lane string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.turns[lane]) > 0
}

func (s *Scheduler) forget(lane string, t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := s.turns[lane]
	for i := range waiting {
		if waiting[i] == t {
			waiting[i] = waiting[len(waiting)-1]
			waiting = waiting[:len(waiting)-1]
			break
		}
	}
	if len(waiting) == 0 {
		delete(s.turns, lane)
	} else {
		s.turns[lane] = waiting
	}
}

// moved tells what a settlement did to its lane: next is its new head, or when
// the one that stays is due.
func (s *Scheduler) moved(lane string, stays bool, next Promotion) {
	s.mu.Lock()
	for _, t := range s.turns[lane] {
		if stays {
			t.head.Store(stuck)
		} else {
			t.head.Store(next.Seq)
		}
		select {
		case t.moved <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	s.wake(next)
}
