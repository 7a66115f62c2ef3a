//go:build linux

package torture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// number names an event for the test: the n-th of a caller. It is in the body.
type number struct{ caller, n int }

func (n number) String() string { return fmt.Sprintf("%d.%d", n.caller, n.n) }

// sent is an event with what its caller knows.
type sent struct {
	number
	record       string
	daemon       int
	at, answered time.Time

	status    int // 0: there was no answer
	code      string
	event     string   // its id; of a refusal too
	delivered []string // the routes that the answer called delivered
	// journalled: the answer tells of deliveries, so the event must never be lost.
	journalled bool
	never      bool // nobody listened: it cannot be known
	said       string
}

// caller is TrialKit: it sends the events of its own records one after the other,
// each after the answer to the one before, whatever that was.
type caller struct {
	r      *round
	id     int
	random *rand.Rand
	client *http.Client
	events []*sent
}

const (
	hotRecords = 2    // of each caller, with many events
	hotShare   = 0.4  // of its events
	hangUp     = 4.   // seconds after which a caller gives up waiting
	unwelcome  = 0.03 // share of the events whose caller hangs up early
)

func newCaller(r *round, id int) *caller {
	return &caller{
		r: r, id: id, random: r.random(fmt.Sprint("caller ", id)),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}},
	}
}

// body is what a caller sends, the same whenever it is asked for.
func body(n number, record string) []byte {
	random := rand.New(rand.NewPCG(uint64(n.caller), uint64(n.n)))
	size := random.IntN(600)
	if random.IntN(40) == 0 {
		size = 40000
	}
	note := strings.Repeat("Größe 漢字 \\u00e9 ", size/16+1)
	return fmt.Appendf(nil, "{\"trans_id\":%q, \"form_id\":319,\n\"form_name\":\"Sample Form\",\"OnUpdate\":true,\"subject\":%q,\"caller\":%d,\"n\":%d,\"x\":1.50e0,\"note\":\"%s\"}",
		record, subject, n.caller, n.n, note)
}

func (c *caller) run(ctx context.Context) {
	defer c.client.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		e := &sent{number: number{c.id, n}, record: fmt.Sprintf("r%d-%d", c.id, n)}
		if c.random.Float64() < hotShare {
			e.record = fmt.Sprintf("hot%d-%d", c.id, c.random.IntN(hotRecords))
		}
		d := c.r.daemons[c.random.IntN(len(c.r.daemons))]
		e.daemon = d.n
		c.events = append(c.events, e)
		c.send(e, d)
		think := time.Duration(c.random.IntN(40)) * time.Millisecond
		if e.never {
			think += 100 * time.Millisecond
		}
		pause(ctx, think)
	}
}

func (c *caller) send(e *sent, d *daemon) {
	patience := time.Duration(hangUp * float64(time.Second))
	if c.random.Float64() < unwelcome {
		patience = time.Duration(1+c.random.IntN(60)) * time.Millisecond
	}
	// Not the load's context: every event gets its answer.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.addr+"/hooks/demo", bytes.NewReader(body(e.number, e.record)))
	if err != nil {
		c.r.wrong("%v", err)
		return
	}
	req.GetBody = nil // never sent twice by the client itself
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(hookEmail, hookPassword)
	e.at = time.Now()
	resp, err := c.client.Do(req)
	if err != nil {
		var op *net.OpError
		e.never = errors.As(err, &op) && op.Op == "dial"
		e.said = err.Error()
		return
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.said = err.Error()
		return
	}
	e.answered, e.status = time.Now(), resp.StatusCode
	var a struct {
		Code       string
		EventID    string `json:"event_id"`
		Deliveries []struct{ Route, Status, Code string }
	}
	if err := json.Unmarshal(text, &a); err != nil {
		c.r.wrong("event %s: answer %d is not JSON: %s", e.number, e.status, text)
		return
	}
	e.code, e.event, e.journalled = a.Code, a.EventID, len(a.Deliveries) > 0
	e.said = fmt.Sprintf("%d %s", e.status, e.code)
	for _, x := range a.Deliveries {
		e.said += fmt.Sprintf(" %s=%s/%s", x.Route, x.Status, x.Code)
		if x.Status == "delivered" {
			e.delivered = append(e.delivered, x.Route)
		}
	}
	switch {
	case e.event == "":
		c.r.wrong("event %s: answer %d names no event: %s", e.number, e.status, text)
	case e.journalled && len(a.Deliveries) != len(routes):
		c.r.wrong("event %s: answer %d tells of %d deliveries, not %d: %s", e.number, e.status, len(a.Deliveries), len(routes), text)
	case e.status < 300 && !e.journalled:
		c.r.wrong("event %s: answer %d without a delivery: %s", e.number, e.status, text)
	case !e.journalled && !slices.Contains([]string{"journal_unavailable", "draining", "overloaded"}, e.code):
		c.r.wrong("event %s: it was refused: %s", e.number, text)
	}
}
