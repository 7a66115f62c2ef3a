package journal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
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
		snapshot := &core.Snapshot{Record: []byte(`{"form_id":"7"}`), ReadAt: time.Now()}
		if i%10 == 6 { // skipped by what the record says
			p.Shape, p.Contents = core.ShapeOpen, nil
		}
		if err := s.Begin(ctx, &core.Entry{Event: ev, Deliveries: []*core.Placement{p}}); err != nil {
			t.Fatal(err)
		}
		switch i % 10 {
		case 5:
			p.Snapshot = snapshot
			if err := s.Shaped(ctx, p.Delivery); err != nil {
				t.Fatal(err)
			}
		case 6:
			p.Snapshot, p.Logs = snapshot, []string{"it is no visit"}
			s.Settle(p.Delivery, core.Settlement{State: core.StateSkipped, Code: core.Skipped, Reason: "not wanted"})
			continue
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

// TestVerifyRewritten has rows of a chain written anew, with hashes that are right,
// up to what a later chain has named.
func TestVerifyRewritten(t *testing.T) {
	onDurable(t, func(t *testing.T, url string) {
		s := open(t, Options{URL: url})
		fill(t, s, 20)
		_ = s.Close()
		s = open(t, Options{URL: url})
		unaudited.Store(s, true)
		chain := one(t, s, "select min(chain) from audit")
		var rows []row
		err := s.engine.snapshot(t.Context(), func(read snapshot) error {
			return read("select n, at, entries from audit where chain = '"+chain+"' order by n", func(r row) { rows = append(rows, slices.Clone(r)) })
		})
		if err != nil {
			t.Fatal(err)
		}
		var before [sha256.Size]byte
		for _, r := range rows {
			at := r.int(1)
			if r.int(0) == 3 {
				at++ // it was at another time
			}
			before = chainHash(before, chain, r.int(0), at, r.bytes(2))
			text := fmt.Sprintf("update audit set at = %d, hash = %s where chain = '%s' and n = %d", at, hexLiteral(s, fmt.Sprintf("%x", before)), chain, r.int(0))
			if err := raw(s, text); err != nil {
				t.Fatal(err)
			}
		}
		want := fmt.Sprintf("%s/%d", chain, rows[len(rows)-1].int(0))
		if v := verified(t, s); len(v.Findings) != 1 || v.Findings[0].What != "altered" || v.Findings[0].ID != want {
			t.Fatalf("%s is not what is named: %v", want, v.Findings)
		}
	})
}

func TestOutOfOrder(t *testing.T) {
	for _, c := range []struct{ in, out []int64 }{
		{nil, nil},
		{[]int64{1, 2, 3}, nil},
		{[]int64{-1, 1, 2}, nil},
		{[]int64{1, 99, 3, 4, 5}, []int64{99}},
		{[]int64{2, 3, 4, 1, 5}, []int64{1}},
		{[]int64{1, 4, 3, 2, 5, 6}, []int64{4, 3}},
		{[]int64{9, 1, 2, 0, 3, 8, 4}, []int64{9, 0, 8}},
	} {
		var got []int64
		for _, i := range outOfOrder(c.in, func(v int64) int64 { return v }) {
			got = append(got, c.in[i])
		}
		if !slices.Equal(got, c.out) {
			t.Errorf("%v: %v, want %v", c.in, got, c.out)
		}
	}
}
