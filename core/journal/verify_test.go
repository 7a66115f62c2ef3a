package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

// fill makes a journal with some of everything.
func fill(t testing.TB, s *Store, events int) {
	t.Helper()
	ctx := context.Background()
	for i := range events {
		ev := newEvent(fmt.Sprint(i % 50))
		switch i % 10 {
		case 9:
			if err := s.Refused(ctx, ev, core.InvalidBody, "trans_id", "is missing"); err != nil {
				t.Fatal(err)
			}
			continue
		case 8:
			begin1(t, s, fmt.Sprint("open ", i), false)
			continue
		}
		p := place(ev, "r", true)
		p.Shape, p.Contents = core.ShapeMessages, []core.Content{
			{Payload: []byte(`{"n":1}`), Key: "k", Headers: map[string]string{"x-a": "1"}}, {Payload: []byte("two")},
		}
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
			t.Fatal(err)
		}
		set := core.Settlement{State: core.StateDelivered, Code: transport.Delivered, Attempts: []core.Attempt{{
			N: 1, Start: time.Now(), Took: time.Millisecond,
			Receipt: transport.Receipt{Effect: transport.Done, Code: transport.Delivered, TargetStatus: 200, Body: []byte("ok"), ContentType: "text/plain", Detail: "well"},
		}}}
		if i%10 == 7 {
			set.State, set.Code, set.Reason = core.StateDead, transport.RejectedByTarget, "no such form"
			set.Attempts[0].Receipt.Body = nil
		}
		s.Settle(p.Delivery, set)
		s.Answered(ev, core.AnswerRecord{Status: 200, Code: transport.Delivered, Detail: "fine"})
	}
	for i := range 12 {
		d := begin1(t, s, fmt.Sprint("act ", i), false)
		if _, err := s.Cancel(ctx, "anna", "not wanted", []string{d.ID}); err != nil {
			t.Fatal(err)
		}
		if err := s.Accept(ctx, Set{Node: "n", Revision: fmt.Sprint("rev ", i), Config: fmt.Append(nil, "config ", i), Scripts: map[string][]byte{"a.js": fmt.Append(nil, i)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func verified(t testing.TB, s *Store) *Verification {
	t.Helper()
	v, err := s.Verify(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerifyGood(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		fill(t, s, 100)
		if v := verified(t, s); len(v.Findings) > 0 || v.Rows < 100 || v.AuditRows < 3 || v.Before > 0 {
			t.Fatalf("%+v", v)
		}
		if url == "memory:" {
			return
		}
		_ = s.Close()
		s = open(t, Options{URL: url})
		fill(t, s, 20)
		v := verified(t, s)
		if len(v.Findings) > 0 || len(v.Heads) < 2 {
			t.Fatalf("after a restart: %+v", v)
		}
		// So does a copy, and a program that is not the daemon.
		r, err := OpenReader(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if other, err := r.Verify(context.Background()); err != nil || len(other.Findings) > 0 || other.Rows != v.Rows {
			t.Fatalf("read by another: %+v, %v", other, err)
		}
		var out bytes.Buffer
		if err := r.Export(context.Background(), &out, time.Time{}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(out.String(), "\n"); lines != v.AuditRows {
			t.Errorf("%d lines were exported of %d", lines, v.AuditRows)
		}
		var first exported
		if err := json.Unmarshal(out.Bytes()[:bytes.IndexByte(out.Bytes(), '\n')], &first); err != nil || first.N != 1 || len(first.Entries) == 0 {
			t.Errorf("%+v, %v", first, err)
		}
	})
}

// TestVerifyCut takes the end of a chain away, which a later one has named.
func TestVerifyCut(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		fill(t, s, 20)
		_ = s.Close()
		s = open(t, Options{URL: url})
		unaudited.Store(s, true)
		chain := one(t, s, "select min(chain) from audit")
		if err := raw(s, "delete from audit where chain = '"+chain+"' and n = (select max(n) from audit where chain = '"+chain+"')"); err != nil {
			t.Fatal(err)
		}
		if v := verified(t, s); len(v.Findings) == 0 || v.Findings[0].What != "missing" || !strings.HasPrefix(v.Findings[0].ID, chain) {
			t.Fatal(v.Findings)
		}
	})
}
