package mllp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/mllp"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(mllp.New())
		syscall.Exit(0) // not os.Exit: with -race it sleeps a second
	}
	goleak.VerifyTestMain(m)
}

type obj = map[string]any

// configured returns a transport with the settings, closed at the test's end.
func configured(t testing.TB, s obj) *mllp.Transport {
	t.Helper()
	tr := mllp.New()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Configure(t.Context(), raw); err != nil {
		t.Fatalf("configure: %v", err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

var escapes = strings.NewReplacer(`\`, `\E\`, `|`, `\F\`, `^`, `\S\`, `&`, `\T\`, `~`, `\R\`, "\r", `\X0D\`, "\n", `\X0A\`)

// adt is an HL7 message that holds the text.
func adt(id, text string) []byte {
	return fmt.Appendf(nil, "MSH|^~\\&|HOOKLINE|SITE|EHR|HOSP|20260102030405||ADT^A08^ADT_A01|%s|P|2.5\rNTE|1||%s\r", id, escapes.Replace(text))
}

func message(payload string) *transport.Message {
	return &transport.Message{ID: "msg_1", EventID: "e", DeliveryID: "d", Attempt: 1, Kind: "update", ContentType: "application/hl7-v2", Payload: []byte(payload)}
}

// deliver makes one attempt with a deadline that only a hanging receiver meets.
func deliver(t testing.TB, tr *mllp.Transport, payload string) transport.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return tr.Deliver(ctx, message(payload))
}

// want is targettest.Want for a transport whose targets have no status. The patient
// of the tests is Jane.
func want(t testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code) {
	t.Helper()
	targettest.Want(t, r, effect, code, 0, "Jane")
}
