package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins/transport"
)

// The test binary is a plugin as well: "plugin" and a fault.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "plugin" {
		runPlugin(os.Args[2])
		return
	}
	temp, err := os.MkdirTemp("", "conformance-") // for what killed plugins leave
	if err == nil {
		err = os.Setenv("TMPDIR", temp)
	}
	if err != nil {
		log.Fatal(err)
	}
	goleak.VerifyTestMain(m,
		// go-plugin leaves its broker to end by itself once the process is gone.
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*GRPCBroker).Run"),
		goleak.IgnoreAnyFunction("github.com/hashicorp/go-plugin.(*gRPCBrokerClientImpl).StartStream"),
		goleak.Cleanup(func(code int) {
			_ = os.RemoveAll(temp)
			os.Exit(code)
		}),
	)
}

func good(t *testing.T, fault string) Subject {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := subject(fault)
	s.Command = []string{exe, "plugin", fault}
	return s
}

func TestAGoodTransportPasses(t *testing.T) { Test(t, good(t, "none")) }

// A target that knows a message by its id passes too.
func TestAnIdempotentTransportPasses(t *testing.T) {
	s := good(t, "idempotent")
	s.Command = nil
	Test(t, s)
}

// A target that takes no JSON gets what it takes.
func TestPayloadsAreWrapped(t *testing.T) {
	s := good(t, "none")
	s.Command = nil
	s.Payload = func(text string) []byte { return []byte("MSH|" + text) }
	s.ContentType = "x-application/hl7-v2+er7"
	report := Run(t.Context(), s, nil)
	if !report.OK() || report.NotChecked > 0 {
		t.Errorf("%+v", report)
	}
}

// Without a target to control, settings stand for its states; what cannot be seen
// is not claimed.
func TestSettingsInsteadOfATarget(t *testing.T) {
	target := func(state State) json.RawMessage {
		to := newLines(false)(t)
		to.Set(state)
		return to.Settings()
	}
	s := good(t, "none")
	s.New, s.Target, s.Faults = nil, nil, nil
	s.Settings = map[State]json.RawMessage{Up: target(Up), Down: target(Down)}
	report := Run(t.Context(), s, nil)
	missing := map[string]string{}
	for _, r := range report.Results {
		switch r.Outcome {
		case Failed:
			t.Errorf("%s: %q", r.Check, r.Failures)
		case NotChecked:
			missing[r.Check] = r.Missing
		}
	}
	for check, want := range map[string]string{
		"ends at the deadline": "--slow", "tells that the target rejects": "--rejecting", "recovers when the target is back": "--target",
	} {
		if !strings.Contains(missing[check], want) {
			t.Errorf("%s: %q does not say %s", check, missing[check], want)
		}
	}
	if report.Plugin != "line" || report.Version != "1.0.0" {
		t.Errorf("report of %q %q", report.Plugin, report.Version)
	}
	var text bytes.Buffer
	for _, r := range report.Results {
		r.Print(&text)
	}
	for _, want := range []string{"ok    delivers (", "--    ends at the deadline: not checked: give", "what arrived was not compared"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, text.String())
		}
	}
}

// Without any settings only what needs none is checked, and nothing passes for it.
func TestWithoutSettings(t *testing.T) {
	s := good(t, "none")
	s.New, s.Target, s.Faults, s.Secret = nil, nil, nil, ""
	report := Run(t.Context(), s, nil)
	for _, r := range report.Results {
		bare := r.Check == "shakes hands" || r.Check == "keeps standard output clean" || r.Check == "describes itself" ||
			r.Check == "has a schema of its settings" || r.Check == "tells no secret and no record"
		if want := map[bool]Outcome{true: Passed, false: NotChecked}[bare]; r.Outcome != want {
			t.Errorf("%s: %s %q %s", r.Check, r.Outcome, r.Failures, r.Missing)
		}
	}
}

func TestARunCanBeEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	report := Run(ctx, good(t, "none"), func(Result) {
		if n++; n == 2 {
			cancel()
		}
	})
	if !report.Interrupted || report.OK() || len(report.Results) != 2 {
		t.Errorf("%+v", report)
	}
}

// A transport that panics fails a check, and not the run.
func TestAPanicIsAFailure(t *testing.T) {
	s := good(t, "none")
	s.Command = nil
	s.New = func() transport.Transport { return panicking{} }
	if report := Run(t.Context(), s, nil); report.OK() || report.Failed == 0 {
		t.Errorf("%+v", report)
	}
}

type panicking struct{ transport.Transport }

func (panicking) Describe() transport.Description { panic("a vendor's mistake") }
