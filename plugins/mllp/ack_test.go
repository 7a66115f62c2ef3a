package mllp_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// What each answer of a real receiver means.
func TestAcknowledgements(t *testing.T) {
	r := newReceiver(t)
	tr := configured(t, obj{"address": r.address})
	strict := configured(t, obj{"address": r.address, "retry_on": []string{"AR"}})
	for _, c := range []struct {
		answer string
		effect transport.Effect
		code   transport.Code
	}{
		{"AA", transport.Done, transport.Delivered},
		{"CA", transport.Done, transport.Delivered},
		{"AA:nocr", transport.Done, transport.Delivered}, // a frame without its last CR
		{"AA:lf", transport.Done, transport.Delivered},
		{"AE", transport.Unknown, transport.TargetError},
		{"CE", transport.None, transport.TargetError},
		{"AR", transport.None, transport.RejectedByTarget},
		{"CR", transport.None, transport.RejectedByTarget},
		{"AE:101", transport.None, transport.RejectedByTarget}, // required field missing
		{"AE:old101", transport.None, transport.RejectedByTarget},
		{"AE:207", transport.Unknown, transport.TargetError}, // internal error
		{"AE:206", transport.None, transport.TargetError},    // record locked
		{"AR:207", transport.None, transport.TargetError},
		{"AR:old207", transport.None, transport.TargetError},
		{"AR:200", transport.None, transport.RejectedByTarget},
		{"AE:999", transport.Unknown, transport.TargetError}, // of no table
		{"XX", transport.Unknown, transport.BadResponse},
		{"AA:other", transport.Unknown, transport.BadResponse},
		{"AE:other", transport.Unknown, transport.BadResponse},
		{"raw", transport.Unknown, transport.BadResponse},
		{"echo", transport.Unknown, transport.BadResponse},
		{"text", transport.Unknown, transport.BadResponse},
		{"long", transport.Unknown, transport.BadResponse},
		{"cut", transport.Unknown, transport.ConnectionReset},
		{"close", transport.Unknown, transport.ConnectionReset},
		{"AA", transport.Done, transport.Delivered}, // after all that
	} {
		r.answers(c.answer)
		got := deliver(t, tr, string(adt("435", "Jane Doe")))
		if want(t, got, c.effect, c.code); t.Failed() {
			t.Fatalf("answer %s", c.answer)
		}
		if code, _, _ := strings.Cut(c.answer, ":"); got.Code != transport.BadResponse && got.Code != transport.ConnectionReset &&
			(!bytes.Contains(got.Body, []byte("\rMSA|"+code+"|435")) && !bytes.Contains(got.Body, []byte("\nMSA|"+code+"|435")) || got.ContentType != "application/hl7-v2") {
			t.Errorf("answer %s: body %q", c.answer, got.Body)
		}
	}
	r.answers("AR")
	want(t, deliver(t, strict, string(adt("435", ""))), transport.None, transport.TargetError)
	r.answers("AE")
	want(t, deliver(t, strict, string(adt("435", ""))), transport.None, transport.RejectedByTarget)
}

// enhanced is a message with MSH-15 and MSH-16.
func enhanced(accept, application string) string {
	return "MSH|^~\\&|A|B|C|D|20260102||ADT^A08|7|P|2.5|||" + accept + "|" + application + "\rNTE|1||Jane\r"
}

func TestEnhancedMode(t *testing.T) {
	r := newReceiver(t)
	accept := configured(t, obj{"address": r.address})
	application := configured(t, obj{"address": r.address, "wait_for": "application"})
	r.answers("CA wait AA")
	for range 3 { // the AA that comes late is not taken for the next message's
		want(t, deliver(t, accept, enhanced("AL", "AL")), transport.Done, transport.Delivered)
	}
	got := deliver(t, application, enhanced("AL", "AL"))
	want(t, got, transport.Done, transport.Delivered)
	if !strings.Contains(got.Detail, "AA") {
		t.Errorf("it did not wait for AA: %s", got.Detail)
	}
	r.answers("AA")
	want(t, deliver(t, application, enhanced("NE", "AL")), transport.Done, transport.Delivered)
	r.answers("CA wait AE")
	want(t, deliver(t, application, enhanced("AL", "AL")), transport.Unknown, transport.TargetError)
	r.answers("CA")
	want(t, deliver(t, application, enhanced("AL", "NE")), transport.Done, transport.Delivered)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	got = application.Deliver(ctx, message(enhanced("AL", "AL")))
	want(t, got, transport.Unknown, transport.Timeout)
	if !strings.Contains(got.Detail, "committed (CA)") {
		t.Errorf("detail: %s", got.Detail)
	}
	before := len(r.Received())
	for _, none := range [][2]string{{"NE", "NE"}, {"ER", ""}, {"", "ER"}, {"NE", ""}} {
		want(t, deliver(t, accept, enhanced(none[0], none[1])), transport.None, transport.RejectedByTarget)
	}
	if len(r.Received()) != before {
		t.Error("a message that nobody would acknowledge was sent")
	}
}

// One connection is used for all messages, also after an idle close and a restart of
// the receiver; and it carries one message at a time.
func TestConnectionIsKept(t *testing.T) {
	r := newReceiver(t)
	tr := configured(t, obj{"address": r.address, "idle_timeout": "50ms"})
	for range 5 {
		want(t, deliver(t, tr, string(adt("1", ""))), transport.Done, transport.Delivered)
	}
	if n := tr.Dialled(); n != 1 {
		t.Errorf("%d connections for 5 messages", n)
	}
	targettest.Eventually(t, "the idle connection to close", func() bool { return tr.Open() == 0 })
	want(t, deliver(t, tr, string(adt("1", ""))), transport.Done, transport.Delivered)
	r.kill()
	targettest.Eventually(t, "the end of the connection to be noticed", func() bool { return tr.Open() == 0 })
	want(t, deliver(t, tr, string(adt("1", ""))), transport.None, transport.ConnectionRefused)
	r.start()
	want(t, deliver(t, tr, string(adt("1", ""))), transport.Done, transport.Delivered)
	if r := tr.Check(t.Context()); r.Effect != transport.Done || !strings.Contains(r.Detail, "connected to 127.0.0.1:") {
		t.Errorf("check: %v", r)
	}

	// A second caller waits for the connection, and gives up in time: nothing was sent.
	r.answers("silent")
	first := make(chan transport.Receipt, 1)
	ctx, cancel := context.WithCancel(t.Context())
	sent := len(r.Received())
	go func() { first <- tr.Deliver(ctx, message(string(adt("1", "")))) }()
	targettest.Eventually(t, "the first to be sent", func() bool { return len(r.Received()) == sent+1 })
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	want(t, tr.Deliver(short, message(string(adt("2", "")))), transport.None, transport.Timeout)
	cancel()
	want(t, <-first, transport.Unknown, transport.Timeout)
	r.answers("AA")
	want(t, deliver(t, tr, string(adt("3", ""))), transport.Done, transport.Delivered)
}

// Several connections carry several messages at once.
func TestConnections(t *testing.T) {
	r := newReceiver(t)
	tr := configured(t, obj{"address": r.address, "connections": 4})
	r.answers("wait AA")
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			want(t, deliver(t, tr, string(adt("1", ""))), transport.Done, transport.Delivered)
		})
	}
	calls.Wait()
	if n := tr.Dialled(); n != 4 {
		t.Errorf("%d connections, want 4", n)
	}
}
