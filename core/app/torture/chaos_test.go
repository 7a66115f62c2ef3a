//go:build linux

package torture_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// chaos strikes until ctx ends, and leaves nothing cut off. At any time one
// daemon at most is killed, stopped or cut off; a child can be any daemon's.
func (r *round) chaos(ctx context.Context) {
	random := r.random("chaos")
	var cuts sync.WaitGroup
	defer cuts.Wait()
	var busy *cutting // the cut that is under way, or the last one
	for {
		if !pause(ctx, time.Duration(300+random.IntN(1200))*time.Millisecond) {
			return
		}
		d := r.daemons[random.IntN(len(r.daemons))]
		what := random.IntN(100)
		if what < 30 {
			if name := d.killChild(random.IntN(100)); name != "" {
				r.struck(d, "killed its "+name, true)
			}
			continue
		}
		if busy.on() {
			// One is in trouble already, so it can be no other; and it could not
			// come back before the cut is over.
			if what < 40 {
				r.struck(busy.d, "killed it, cut off as it was", true)
				busy.d.kill()
			}
			continue
		}
		switch {
		case d.proxy != nil && what >= 50:
			busy = newCutting(d, random)
			cuts.Go(func() { busy.run(ctx, r) })
		case what < 42 || d.proxy == nil && what < 70:
			was := d.starts()
			r.struck(d, "killed it", true)
			d.kill()
			r.back(ctx, d, was)
		default:
			was := d.starts()
			r.struck(d, "stopped it", false)
			d.terminate()
			r.back(ctx, d, was)
		}
	}
}

func (r *round) struck(d *daemon, what string, lossy bool) {
	now := time.Now()
	r.hit(blow{at: now, until: now, daemon: d.n, what: what, lossy: lossy})
}

// back waits until a later process than the was-th of the daemon serves.
func (r *round) back(ctx context.Context, d *daemon, was int) {
	for d.starts() == was || !d.await(20*time.Millisecond) {
		if !pause(ctx, 10*time.Millisecond) {
			return
		}
	}
}

// cutting is a cut with its length.
type cutting struct {
	d     *daemon
	how   cut
	lasts time.Duration
	over  chan struct{}
}

func newCutting(d *daemon, random *rand.Rand) *cutting {
	c := &cutting{d: d, over: make(chan struct{}), how: []cut{severed, stalled, deafened}[random.IntN(3)]}
	c.lasts = time.Duration(500+random.IntN(3500)) * time.Millisecond
	switch random.IntN(5) {
	case 0, 1:
		// Longer than a daemon waits for its database.
		c.lasts = time.Duration(5+random.IntN(7)) * time.Second
	case 2:
		// Longer than others wait before they take over.
		c.lasts = time.Duration(15500+random.IntN(4500)) * time.Millisecond
	}
	return c
}

// on tells whether the cut is under way.
func (c *cutting) on() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.over:
		return false
	default:
		return true
	}
}

func (c *cutting) run(ctx context.Context, r *round) {
	defer close(c.over)
	at := time.Now()
	c.d.proxy.set(c.how)
	pause(ctx, c.lasts)
	c.d.proxy.set(whole)
	until := time.Now().Add(time.Second)
	if c.how != severed {
		until = until.Add(min(time.Since(at), latest))
	}
	r.hit(blow{at: at, until: until, daemon: c.d.n, what: "the way to its database was " + c.how.String(), lossy: true})
}
