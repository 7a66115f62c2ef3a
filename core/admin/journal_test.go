package admin_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/core/admin"
	"github.com/hookline/hookline/core/journal"
	"github.com/hookline/hookline/plugins/transport"
)

// desk is a daemon's admin API on a real journal.
type desk struct {
	t      *testing.T
	store  *journal.Store
	client *admin.Client
	raw    *http.Client
	logs   *logs
	stop   func()
}

func open(t *testing.T, journalURL string) *desk {
	t.Helper()
	store, err := journal.Open(t.Context(), journal.Options{URL: journalURL, Node: "test"})
	if err != nil {
		t.Fatal(err)
	}
	path, l := socket(t), &logs{}
	d := &desk{t: t, store: store, client: admin.NewClient(path), logs: l, raw: rawClient(t, path)}
	s := serve(t, admin.Options{
		Path: path, Reload: accept, Journal: store, Log: slog.New(slog.NewTextHandler(l, nil)),
		Status: func() admin.Status { return admin.Status{Version: "1", Journal: "memory"} },
	})
	d.stop = func() {
		d.raw.CloseIdleConnections()
		s.Stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(d.stop)
	return d
}

func rawClient(t *testing.T, path string) *http.Client {
	pool := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(pool.CloseIdleConnections)
	return &http.Client{Transport: pool, Timeout: 20 * time.Second}
}

// call makes a request as it is written.
func (d *desk) call(method, path, mediaType, body string) (int, http.Header, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, "http://admin"+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := d.raw.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(answer)
}

var demo = &core.Hook{Name: "demo", Study: "ABC-123", Stage: core.UAT}

// event takes an event in as the daemon does, with a delivery on each route.
func (d *desk) event(kind core.Kind, record, form, body string, routes ...string) (*core.Event, []*core.Delivery) {
	d.t.Helper()
	ev := &core.Event{Kind: kind, TransID: record, FormID: "319", FormName: form, Body: []byte(body)}
	ev.Stamp(demo, time.Now())
	entry := &core.Entry{Event: ev}
	var out []*core.Delivery
	for _, route := range routes {
		delivery := &core.Delivery{
			ID: uuid.Must(uuid.NewV7()).String(), Event: ev, Route: route, Lane: ev.Lane(route), Shape: core.ShapeBody, Revision: "r1",
		}
		out = append(out, delivery)
		entry.Deliveries = append(entry.Deliveries, &core.Placement{Delivery: delivery, Run: true})
	}
	if err := d.store.Begin(d.t.Context(), entry); err != nil {
		d.t.Fatal(err)
	}
	return ev, out
}

// settle ends a delivery's run and waits until that is written.
func (d *desk) settle(delivery *core.Delivery, state core.State, code core.Code) {
	d.t.Helper()
	done := make(chan error, 1)
	receipt := transport.Receipt{Effect: transport.None, Code: code, Detail: "dial tcp 127.0.0.1:1", Body: []byte("the target quotes Jane Doe")}
	due := time.Hour
	if state == core.StateHeld {
		due = -1
	}
	d.store.Settle(delivery, core.Settlement{
		State: state, Code: code, Due: due, Reason: "a reason",
		Attempts: []core.Attempt{{N: 1, Start: time.Now(), Took: 12 * time.Millisecond, Receipt: receipt}},
		Settled:  func(_ core.Promotion, err error) { done <- err },
	})
	select {
	case err := <-done:
		if err != nil {
			d.t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		d.t.Fatal("never settled")
	}
}

func TestEvents(t *testing.T) {
	d := open(t, "memory:")
	const body = `{"trans_id":"1","secret":"Jane Doe"}`
	ev, deliveries := d.event(core.Insert, "1", "Adverse", body, "ehr", "lab")
	d.settle(deliveries[0], core.StateDelivered, transport.Delivered)
	d.settle(deliveries[1], core.StateWaiting, transport.ConnectionRefused)
	d.store.Answered(ev, core.AnswerRecord{Status: 502, Code: transport.ConnectionRefused, Detail: "not confirmed", Gone: 1500 * time.Millisecond})
	second, _ := d.event(core.Update, "2", "Other", `{}`)
	bad := &core.Event{Body: []byte("\xff{")}
	bad.Stamp(demo, time.Now())
	if err := d.store.Refused(t.Context(), bad, core.InvalidBody, "trans_id", "is missing"); err != nil {
		t.Fatal(err)
	}

	list := func(f journal.EventFilter) (refs []string) {
		t.Helper()
		page, err := d.client.Events(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			refs = append(refs, e.Ref)
		}
		return refs
	}
	for name, tt := range map[string]struct {
		filter journal.EventFilter
		want   []string
	}{
		"all":             {journal.EventFilter{}, []string{bad.Ref, second.Ref, ev.Ref}},
		"hook":            {journal.EventFilter{Hook: "demo", Kind: core.Insert}, []string{ev.Ref}},
		"no such hook":    {journal.EventFilter{Hook: "demo2"}, nil},
		"form name":       {journal.EventFilter{Form: "Other"}, []string{second.Ref}},
		"form id":         {journal.EventFilter{Form: "319"}, []string{second.Ref, ev.Ref}},
		"record":          {journal.EventFilter{Record: "1"}, []string{ev.Ref}},
		"refused":         {journal.EventFilter{Refused: true}, []string{bad.Ref}},
		"since the first": {journal.EventFilter{Since: ev.ReceivedAt.Add(-time.Microsecond)}, []string{bad.Ref, second.Ref, ev.Ref}},
		"until it":        {journal.EventFilter{Until: ev.ReceivedAt}, nil},
		"the future":      {journal.EventFilter{Since: time.Now().Add(time.Hour)}, nil},
	} {
		if got := list(tt.filter); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}

	page, err := d.client.Events(t.Context(), journal.EventFilter{Record: "1"})
	if err != nil {
		t.Fatal(err)
	}
	e := page.Events[0]
	if e.Size != len(body) || e.Answer.Status != 502 || e.Answer.GoneMS != 1500 || len(e.Deliveries) != 2 ||
		e.Deliveries[0].State != core.StateDelivered || e.Deliveries[1].Route != "lab" || e.Deliveries[1].Code != transport.ConnectionRefused {
		t.Errorf("%+v", e)
	}

	for _, name := range []string{ev.ID, strings.ToUpper(ev.ID), ev.Ref, strings.ToLower(ev.Ref), strings.NewReplacer("0", "o", "1", "l").Replace(ev.Ref)} {
		detail, err := d.client.Event(t.Context(), name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		lab := detail.Deliveries[1]
		if detail.ID != ev.ID || detail.Study != "ABC-123" || lab.State != core.StateWaiting || lab.DueAt.IsZero() || !lab.Head || lab.Reason != "a reason" ||
			len(lab.History) != 1 || lab.History[0].TookMS != 12 || lab.History[0].Detail != "dial tcp 127.0.0.1:1" ||
			len(lab.Messages) != 1 || lab.Messages[0].Size != len(body) {
			t.Errorf("%s: %+v", name, detail)
		}
	}
	refused, err := d.client.Event(t.Context(), bad.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if r := refused.Refused; r == nil || *r != (admin.Refusal{Code: core.InvalidBody, Key: "trans_id", Rule: "is missing"}) || len(refused.Deliveries) != 0 {
		t.Errorf("%+v", refused)
	}

	for _, path := range []string{"/v1/events", "/v1/events/" + ev.ID, "/v1/deliveries"} {
		status, header, answer := d.call(http.MethodGet, path, "", "")
		if status != 200 || header.Get("Content-Type") != "application/json" || strings.Contains(answer, "Jane Doe") {
			t.Errorf("%s: %d %s", path, status, answer)
		}
		if !strings.Contains(answer, `_at":"`+time.Now().UTC().Format("2006-")) || !strings.Contains(answer, `Z"`) {
			t.Errorf("%s: times are not in UTC: %s", path, answer)
		}
	}

	if strings.Contains(d.logs.String(), "body of an event") {
		t.Error("the log says that a body was read, and none was")
	}
	got, err := d.client.Body(t.Context(), ev.Ref)
	if err != nil || string(got) != body {
		t.Errorf("%q, %v", got, err)
	}
	for id, media := range map[string]string{ev.ID: "application/json", bad.ID: "application/octet-stream"} {
		if status, header, _ := d.call(http.MethodGet, "/v1/events/"+id+"/body", "", ""); status != 200 || header.Get("Content-Type") != media {
			t.Errorf("body: %d %s", status, header)
		}
		if text := d.logs.String(); !strings.Contains(text, "actor="+me(t)+" event_id="+id) || strings.Contains(text, "Jane") {
			t.Errorf("log: %s", text)
		}
	}
	if _, err := d.client.Event(t.Context(), "ZZZZZZZZ"); !errors.Is(err, admin.ErrNotFound) || !strings.Contains(err.Error(), "ZZZZZZZZ") {
		t.Errorf("no such event: %v", err)
	}
	if _, err := d.client.Body(t.Context(), uuid.NewString()); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("no such body: %v", err)
	}
}

// me is the user that the socket's other end sees.
func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func TestPages(t *testing.T) {
	d := open(t, "memory:")
	var want []string
	for i := range 7 {
		ev, deliveries := d.event(core.Insert, fmt.Sprint(i), "F", "{}", "ehr")
		d.settle(deliveries[0], core.StateHeld, transport.Timeout)
		want = append(want, ev.ID)
	}
	slices.Reverse(want)
	var events, deliveries []string
	f := journal.EventFilter{Limit: 3}
	for {
		page, err := d.client.Events(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			events = append(events, e.ID)
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			break
		}
	}
	g := journal.DeliveryFilter{Limit: 3, States: []core.State{core.StateWaiting, core.StateHeld}, Code: transport.Timeout, Route: "ehr", Hook: "demo"}
	for {
		page, err := d.client.Deliveries(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Deliveries {
			deliveries = append(deliveries, e.EventID)
		}
		if g.Cursor = page.Next; g.Cursor == "" {
			break
		}
	}
	if !slices.Equal(events, want) || !slices.Equal(deliveries, want) {
		t.Errorf("events %q\ndeliveries %q\nwant %q", events, deliveries, want)
	}
	// In pages whose cursors lead on, with others between them that are not wanted.
	deliveries = nil
	for i := range 4 {
		_, more := d.event(core.Insert, fmt.Sprint("due", i), "F", "{}", "ehr")
		d.settle(more[0], core.StateUnknown, transport.Timeout)
	}
	g = journal.DeliveryFilter{Limit: 3}
	for n := 0; ; n++ {
		page, err := d.client.Stuck(t.Context(), g)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Deliveries {
			deliveries = append(deliveries, e.EventID)
		}
		if g.Cursor = page.Next; g.Cursor == "" || n > 9 {
			break
		}
	}
	if !slices.Equal(deliveries, want) {
		t.Errorf("stuck %q\nwant %q", deliveries, want)
	}
	for _, f := range []journal.DeliveryFilter{
		{States: []core.State{core.StateDead}}, {Route: "lab"}, {Code: transport.DNSError}, {Record: "9"}, {Event: uuid.NewString()},
	} {
		if page, err := d.client.Deliveries(t.Context(), f); err != nil || len(page.Deliveries) != 0 || page.Deliveries == nil {
			t.Errorf("%+v: %+v, %v", f, page, err)
		}
	}
	one, err := d.client.Event(t.Context(), want[0])
	if err != nil {
		t.Fatal(err)
	}
	if page, err := d.client.Deliveries(t.Context(), journal.DeliveryFilter{Event: strings.ToLower(one.Ref)}); err != nil || len(page.Deliveries) != 1 {
		t.Errorf("by reference: %+v, %v", page, err)
	}
}

// What an operator does is written down with who did it, and why.
func TestActs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "journal.db")
	d := open(t, "sqlite:"+file)
	_, held := d.event(core.Insert, "1", "F", "{}", "ehr")
	d.settle(held[0], core.StateHeld, transport.Timeout)
	_, done := d.event(core.Insert, "2", "F", "{}", "ehr")
	d.settle(done[0], core.StateDelivered, transport.Delivered)
	_, runs := d.event(core.Insert, "3", "F", "{}", "ehr")
	unknown := uuid.NewString()

	got, err := d.client.Retry(t.Context(), admin.Act{IDs: []string{strings.ToUpper(held[0].ID), done[0].ID, runs[0].ID, unknown}, Reason: "target is “up”"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Results) != 4 || got.Results[0] != (admin.ActResult{ID: held[0].ID, OK: true, Was: core.StateHeld, Now: core.StateQueued}) {
		t.Fatalf("%+v", got.Results)
	}
	for i, why := range []string{1: "has ended as delivered", 2: "being attempted now", 3: "not in the journal"} {
		if r := got.Results[i]; i > 0 && (r.OK || !strings.Contains(r.Why, why)) {
			t.Errorf("%+v, want %q", r, why)
		}
	}
	got, err = d.client.Cancel(t.Context(), admin.Act{IDs: []string{held[0].ID}, Reason: "not wanted"})
	if err != nil || !got.Results[0].OK || got.Results[0].Now != core.StateCancelled {
		t.Fatalf("%+v, %v", got, err)
	}
	var refused *admin.Error
	if _, err := d.client.Cancel(t.Context(), admin.Act{IDs: []string{held[0].ID}, Reason: " "}); !errors.Is(err, admin.ErrRefused) || !errors.As(err, &refused) {
		t.Errorf("cancelled without a reason: %v", err)
	}
	for _, want := range []string{
		"actor=" + me(t) + " act=retry ids=4 done=1", "actor=" + me(t) + " act=cancel ids=1 done=1",
	} {
		if !strings.Contains(d.logs.String(), want) {
			t.Errorf("the log does not say %s:\n%s", want, d.logs)
		}
	}

	d.stop()
	if _, err := d.client.Events(t.Context(), journal.EventFilter{}); !errors.Is(err, admin.ErrNoDaemon) {
		t.Errorf("the daemon is gone: %v", err)
	}
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.Query("select actor, act, reason, was, now from acts order by seq")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var acts []string
	for rows.Next() {
		var actor, act, reason, was, now string
		if err := rows.Scan(&actor, &act, &reason, &was, &now); err != nil {
			t.Fatal(err)
		}
		acts = append(acts, strings.Join([]string{actor, act, reason, was, now}, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if want := []string{me(t) + "|retry|target is “up”|held|queued", me(t) + "|cancel|not wanted|queued|cancelled"}; !slices.Equal(acts, want) {
		t.Errorf("acts: %q, want %q", acts, want)
	}
}

// Every wrong call is refused with words that name what is wrong and what is
// allowed, and changes nothing.
func TestWrongCalls(t *testing.T) {
	d := open(t, "memory:")
	_, held := d.event(core.Insert, "1", "F", "{}", "ehr")
	d.settle(held[0], core.StateHeld, transport.Timeout)
	id := held[0].ID
	many := func(n int) string {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = uuid.NewString()
		}
		text, _ := json.Marshal(admin.Act{IDs: ids, Reason: "r"})
		return string(text)
	}
	const get, post, js = http.MethodGet, http.MethodPost, "application/json"
	const retry, cancel = "/v1/deliveries/retry", "/v1/deliveries/cancel"
	long := strings.Repeat("x", 600)
	for _, c := range []struct {
		method, path, media, body string
		status                    int
		says                      []string
	}{
		{get, "/", "", "", 404, []string{`no "/"`}},
		{get, "/v1/evnts", "", "", 404, []string{`"/v1/evnts"`}},
		{get, "/v1/events/" + id + "/bodies", "", "", 404, []string{"bodies"}},
		{post, "/v1/events", js, "", 405, []string{"takes GET", `"POST"`}},
		{http.MethodDelete, "/v1/events/" + id, "", "", 405, []string{"takes GET"}},
		{get, retry, "", "", 405, []string{"takes POST"}},
		{http.MethodPut, cancel, js, "", 405, []string{"takes POST"}},
		{post, "/v1/status", js, "", 405, []string{"takes GET"}},
		{get, "/v1/reload", "", "", 405, []string{"takes POST"}},

		{get, "/v1/status?x=1", "", "", 400, []string{`no parameter "x"`, "it takes none"}},
		{get, "/v1/events?hok=demo", "", "", 400, []string{`no parameter "hok"`, "hook, study, kind, form, record, code, since, until, id, refused, gone, route, state, limit, cursor, after"}},
		{get, "/v1/events?hook=a&hook=b", "", "", 400, []string{"hook stands 2 times"}},
		{get, "/v1/events?hook=%zz", "", "", 400, []string{"the query cannot be read"}},
		{get, "/v1/events?a;b", "", "", 400, []string{"the query cannot be read"}},
		{get, "/v1/events?hook=" + long, "", "", 400, []string{"hook is 600 bytes long", "at most 512"}},
		{get, "/v1/events?record=a%00b", "", "", 400, []string{"record must be one line"}},
		{get, "/v1/events?record=a%0Ab", "", "", 400, []string{"record must be one line"}},
		{get, "/v1/events?form=%ff", "", "", 400, []string{"form must be one line of UTF-8"}},
		{get, "/v1/events?kind=delete", "", "", 400, []string{`kind is "delete"`, "insert, update, review"}},
		{get, "/v1/events?refused=yes", "", "", 400, []string{`refused is "yes"`, "true or false"}},
		{get, "/v1/events?since=2h", "", "", 400, []string{`since is "2h"`, "2026-01-31T08:30:00Z"}},
		{get, "/v1/events?until=2026-13-01T00:00:00Z", "", "", 400, []string{"until is"}},
		{get, "/v1/events?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "", "", 400, []string{"since is not before until"}},
		{get, "/v1/events?limit=0", "", "", 400, []string{`limit is "0"`, "between 1 and 1000"}},
		{get, "/v1/events?limit=1001", "", "", 400, []string{"between 1 and 1000"}},
		{get, "/v1/events?limit=99999999999999999999", "", "", 400, []string{"between 1 and 1000"}},
		{get, "/v1/events?limit=ten", "", "", 400, []string{`limit is "ten"`}},
		{get, "/v1/events?cursor=!", "", "", 400, []string{`cursor "!"`, "the page before"}},
		{get, "/v1/events?cursor=-5", "", "", 400, []string{"cursor"}},
		{get, "/v1/deliveries?cursor=zzzzzzzzzzzzzzzzzzzz", "", "", 400, []string{"cursor"}},
		{get, "/v1/deliveries?state=held&state=gone", "", "", 400, []string{`state is "gone"`, "queued, running, waiting"}},
		{get, "/v1/deliveries?stuck=1", "", "", 400, []string{`stuck is "1"`, "true or false"}},
		{get, "/v1/deliveries?kind=delete", "", "", 400, []string{`kind is "delete"`}},
		{get, "/v1/deliveries?refused=true", "", "", 400, []string{`no parameter "refused"`}},
		{get, "/v1/deliveries?origin=xyz", "", "", 400, []string{`origin is "xyz"`, "UUID"}},
		{get, "/v1/deliveries?code=a%27b", "", "", 400, []string{"code is", "connection_refused"}},
		{get, "/v1/deliveries?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "", "", 400, []string{"since is not before until"}},
		{get, "/v1/events?gone=1", "", "", 400, []string{`gone is "1"`}},
		{get, "/v1/events?id=xyz", "", "", 400, []string{`"xyz" is no event`}},
		{get, "/v1/events?" + strings.Repeat("id=K7QX2M4D&", 101), "", "", 400, []string{"id stands 101 times"}},
		{get, "/v1/events?after=!", "", "", 400, []string{`after "!"`}},
		{get, "/v1/events?after=1&cursor=1", "", "", 400, []string{"cursor and after"}},
		{get, "/v1/deliveries?event=xyz", "", "", 400, []string{"event", `"xyz"`, "reference"}},
		{get, "/v1/events/xyz", "", "", 400, []string{`"xyz" is no event`, "8 letters"}},
		{get, "/v1/events/UUUUUUUU", "", "", 400, []string{"is no event"}},
		{get, "/v1/events/%7B" + id + "%7D", "", "", 400, []string{"is no event"}},
		{get, "/v1/events/a%2F..%2Fb", "", "", 400, []string{"is no event"}},
		{get, "/v1/events/" + long, "", "", 400, []string{"is no event", "…"}},
		{get, "/v1/events/" + uuid.NewString(), "", "", 404, []string{"not in the journal"}},
		{get, "/v1/events/" + id + "/body", "", "", 404, []string{"not in the journal"}},

		{post, retry, "", `{"ids":["` + id + `"]}`, 415, []string{"Content-Type must be application/json"}},
		{post, retry, "text/plain", `{"ids":["` + id + `"]}`, 415, []string{"application/json"}},
		{post, "/v1/reload", "application/x-www-form-urlencoded", "", 415, []string{"application/json"}},
		{post, retry + "?now=1", js, `{"ids":["` + id + `"]}`, 400, []string{`no parameter "now"`}},
		{post, retry, js, ``, 400, []string{"the body must be {"}},
		{post, retry, js, `[]`, 400, []string{"the body must be {"}},
		{post, retry, js, `null`, 400, []string{"ids is missing"}},
		{post, retry, js, `{"ids":["` + id + `"]} {}`, 400, []string{"something follows"}},
		{post, retry, js, `{"ids":["` + id + `"],"route":"ehr"}`, 400, []string{`unknown field "route"`, `"ids"`}},
		{post, retry, js, `{"ids":"` + id + `"}`, 400, []string{"the body must be {"}},
		{post, retry, js, `{"ids":[]}`, 400, []string{"ids is missing"}},
		{post, retry, js, many(1001), 400, []string{"ids holds 1001", "at most 1000"}},
		{post, retry, js, `{"ids":["K7QX2M4D"]}`, 400, []string{`ids[0], "K7QX2M4D"`, "UUID"}},
		{post, retry, js, `{"ids":["` + id + `","` + strings.ToUpper(id) + `"]}`, 400, []string{"ids[1]", "twice"}},
		{post, retry, js, `{"ids":["` + id + `"],"reason":"` + strings.Repeat("é", 251) + `"}`, 400, []string{"reason is 502 bytes", "at most 500"}},
		{post, retry, js, `{"ids":["` + id + `"],"reason":"a\nb"}`, 400, []string{"reason must be one line"}},
		{post, cancel, js, `{"ids":["` + id + `"]}`, 400, []string{"reason is missing"}},
		{post, "/v1/deliveries/hold", js, `{"ids":["` + id + `"]}`, 400, []string{"reason is missing"}},
		{post, "/v1/deliveries/replay", js, `{"ids":["` + id + `"]}`, 400, []string{"reason is missing"}},
		{post, "/v1/deliveries/release", js, `{"filter":{"route":"ehr"}}`, 400, []string{"reason is missing"}},
		{post, "/v1/deliveries/release", js, `{"filter":{"route":"ehr"},"reason":"r"}`, 400, []string{"expect is missing"}},
		{post, "/v1/deliveries/release", js, `{"filter":{"route":"ehr"},"reason":"r","expect":500}`, 409, []string{"finds 1 deliveries now, and 500 were expected"}},
		{post, "/v1/deliveries/release", js, `{"filter":{},"dry_run":true}`, 400, []string{"filter is empty"}},
		{post, "/v1/deliveries/release", js, `{"filter":{"limit":"5"},"dry_run":true}`, 400, []string{`filter has no parameter "limit"`}},
		{post, "/v1/deliveries/release", js, `{"filter":{"state":"dead"},"dry_run":true}`, 400, []string{"state dead", "for held only"}},
		{post, "/v1/deliveries/release", js, `{"filter":{"route":5},"dry_run":true}`, 400, []string{"filter.route must be a string"}},
		{post, "/v1/deliveries/release", js, `{"filter":["x"],"dry_run":true}`, 400, []string{"filter must be an object"}},
		{post, "/v1/deliveries/release", js, `{"filter":{"route":"ehr"},"ids":["` + id + `"],"reason":"r"}`, 400, []string{"ids and filter"}},
		{post, "/v1/deliveries/release", js, `{"filter":{"route":"ehr"},"reason":"r","after":"!"}`, 400, []string{`after "!"`}},
		{post, retry, js, `{"ids":["` + id + `"],"dry_run":true}`, 400, []string{"go with a filter"}},
		{post, retry, js, `{"ids":["` + id + `"],"force":true}`, 400, []string{"for a replay only"}},
		{post, "/v1/events/xyz/retry", js, `{}`, 400, []string{`"xyz" is no event`}},
		{post, "/v1/events/" + uuid.NewString() + "/retry", js, `{}`, 404, []string{"not in the journal"}},
		{post, retry, js, `{"reason":"` + strings.Repeat("x", 1<<20) + `"}`, 413, []string{"at most 1048576 bytes"}},
	} {
		name := fmt.Sprintf("%s %.80s %.60s", c.method, c.path, c.body)
		status, header, answer := d.call(c.method, c.path, c.media, c.body)
		if status != c.status {
			t.Errorf("%s: %d, want %d: %s", name, status, c.status, answer)
		}
		var failure struct{ Error string }
		if err := json.Unmarshal([]byte(answer), &failure); err != nil || header.Get("Content-Type") != js {
			t.Errorf("%s: %v: %q", name, err, answer)
		}
		for _, part := range c.says {
			if !strings.Contains(failure.Error, part) {
				t.Errorf("%s: %q does not say %q", name, failure.Error, part)
			}
		}
		if status == 405 && header.Get("Allow") == "" {
			t.Errorf("%s: without Allow", name)
		}
		if len(failure.Error) > 400 {
			t.Errorf("%s: a long error: %s", name, failure.Error)
		}
	}
	// As much as is allowed.
	if status, _, answer := d.call(post, retry, "application/json; charset=utf-8", many(1000)); status != 200 {
		t.Errorf("1000 ids: %d %.200s", status, answer)
	}
	if status, _, answer := d.call(get, "/v1/events?hook=&kind=&form=&record=&since=&until=&refused=&limit=&cursor=", "", ""); status != 200 {
		t.Errorf("empty parameters: %d %s", status, answer)
	}
	if status, _, answer := d.call(http.MethodHead, "/v1/status", "", ""); status != 200 || answer != "" {
		t.Errorf("HEAD: %d %s", status, answer)
	}
	if now, err := d.client.Deliveries(t.Context(), journal.DeliveryFilter{}); err != nil || len(now.Deliveries) != 1 || now.Deliveries[0].State != core.StateHeld {
		t.Errorf("a wrong call has changed something: %+v, %v", now, err)
	}
	if strings.Contains(d.logs.String(), "act=retry ids=1 ") {
		t.Errorf("log: %s", d.logs)
	}
}

func TestWithoutAJournal(t *testing.T) {
	path := socket(t)
	at := time.Date(2026, 1, 31, 8, 30, 0, 123456789, time.FixedZone("", 3600))
	want := admin.Status{
		Version: "v2", Revision: "abc", StartedAt: admin.Time{Time: at}, Journal: "none", Hooks: []string{"demo"}, Routes: []string{},
		Recalled: &admin.Recalled{AcceptedAt: admin.Time{Time: at}, Why: "config.toml:2: bad"},
	}
	serve(t, admin.Options{Path: path, Reload: accept, Status: func() admin.Status { return want }, Log: slog.New(slog.DiscardHandler)})
	d := &desk{t: t, client: admin.NewClient(path), raw: rawClient(t, path)}
	_, _, answer := d.call(http.MethodGet, "/v1/status", "", "")
	const golden = `{"version":"v2","revision":"abc","started_at":"2026-01-31T07:30:00.123Z",` +
		`"recalled":{"accepted_at":"2026-01-31T07:30:00.123Z","why":"config.toml:2: bad"},"journal":"none","hooks":["demo"],"routes":[]}` + "\n"
	if answer != golden {
		t.Errorf("got  %swant %s", answer, golden)
	}
	got, err := d.client.Status(t.Context())
	if err != nil || got.Recalled.Why != want.Recalled.Why || !got.StartedAt.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v", got, err)
	}
	id := uuid.NewString()
	act := `{"ids":["` + id + `"],"reason":"r"}`
	for _, c := range [][3]string{
		{http.MethodGet, "/v1/events"}, {http.MethodGet, "/v1/events/" + id}, {http.MethodGet, "/v1/events/" + id + "/body"},
		{http.MethodGet, "/v1/deliveries"}, {http.MethodPost, "/v1/deliveries/retry", act}, {http.MethodPost, "/v1/deliveries/cancel", act},
	} {
		status, _, answer := d.call(c[0], c[1], "application/json", c[2])
		if status != 409 || answer != `{"error":"this daemon runs without a journal (journal.url is none)"}`+"\n" {
			t.Errorf("%q: %d %s", c, status, answer)
		}
	}
	d.raw.CloseIdleConnections()
}

// A journal that has failed says so, and a client that is served by something
// else is not misled.
func TestFailures(t *testing.T) {
	d := open(t, "memory:")
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	var answer *admin.Error
	if _, err := d.client.Events(t.Context(), journal.EventFilter{}); !errors.As(err, &answer) || answer.Status != 503 || errors.Is(err, admin.ErrNotFound) {
		t.Errorf("a closed journal: %v", err)
	}
	if _, err := d.client.Retry(t.Context(), admin.Act{IDs: []string{uuid.NewString()}}); !errors.As(err, &answer) || answer.Status != 503 {
		t.Errorf("a closed journal: %v", err)
	}
	if !strings.Contains(d.logs.String(), "level=ERROR") {
		t.Error("the log does not say that an act failed")
	}

	path := socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/status":
			http.Error(w, "<html>", http.StatusBadGateway)
		case "/v1/events":
			_, _ = w.Write([]byte("<html>"))
		default:
			panic(http.ErrAbortHandler)
		}
	})}
	served := make(chan struct{})
	go func() { _ = other.Serve(l); close(served) }()
	defer func() { _ = other.Close(); <-served }()
	client := admin.NewClient(path)
	_, err1 := client.Status(t.Context())
	_, err2 := client.Events(t.Context(), journal.EventFilter{})
	_, err3 := client.Event(t.Context(), "")
	for i, err := range []error{err1, err2, err3} {
		if err == nil || errors.Is(err, admin.ErrNoDaemon) || errors.As(err, &answer) && bytes.Contains([]byte(err.Error()), []byte("<html>")) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if !strings.Contains(err1.Error(), "502") || !strings.Contains(err3.Error(), path) {
		t.Errorf("%v\n%v", err1, err3)
	}
	var escaped *url.Error
	if errors.As(err3, &escaped) {
		t.Errorf("a made-up URL is shown: %v", err3)
	}
}
