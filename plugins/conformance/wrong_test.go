package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-plugin"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
)

// stdout is what the process was born with: the SDK puts another in its place.
var stdout = os.Stdout

// runPlugin is the test binary as a plugin with a fault.
func runPlugin(fault string) {
	k := &link{fault: fault}
	switch fault {
	case "another version":
		plugins.ServeChild(plugins.Handshake, map[int]plugin.PluginSet{2: {plugins.TransportService: &plugins.TransportPlugin{Impl: k}}})
		return
	case "no certificate":
		_ = os.Unsetenv("PLUGIN_CLIENT_CERT")
	case "public socket":
		_ = os.Unsetenv(plugin.EnvUnixSocketDir)
	case "says nothing":
		return
	case "greets":
		fmt.Println("hello from the plugin")
	case "outlives its host":
		_ = os.Unsetenv(plugins.HostPipeEnv)
	}
	plugins.Serve(k)
	switch fault {
	case "does not end":
		time.Sleep(time.Minute)
	case "ends with a code":
		os.Exit(7)
	}
}

// wrongBefore is what a fault does instead of an exchange, or to the line.
func (k *link) wrongBefore(ctx context.Context, one *line) (r transport.Receipt, ends bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = map[string]bool{}
	}
	knowsID, knowsText := k.known[one.ID], k.known[one.Payload]
	k.known[one.ID], k.known[one.Payload] = true, true
	switch k.fault {
	case "claims after the end":
		return done, ctx.Err() != nil
	case "sends after the end":
		if ctx.Err() != nil {
			_, _, _ = k.exchange(context.Background(), *one)
			return transport.Failed(transport.None, transport.Timeout, ""), true
		}
	case "never recovers":
		return transport.Failed(transport.None, transport.ConnectionRefused, ""), k.worked && k.failed && strings.Contains(one.Payload, `"up"`)
	case "loses":
		return done, strings.Contains(one.Payload, "ünïcode")
	case "takes equal payloads for one":
		return done, knowsText && !knowsID
	case "refuses what it knows":
		return transport.Failed(transport.None, transport.RejectedByTarget, ""), knowsID && strings.Contains(one.Payload, `"again"`)
	case "changes":
		one.Payload = strings.ReplaceAll(one.Payload, "<b>", `\u003cb\u003e`)
	case "cuts":
		one.Payload = one.Payload[:min(len(one.Payload), 1<<16)]
	case "prints":
		fmt.Fprintln(stdout, "delivering")
	case "logs the payload":
		slog.Info("delivering", "payload", one.Payload)
	case "serves streams only":
		// A Go plugin cannot tell the two ways of a call apart: it goes by the payload.
		return transport.Failed(transport.None, transport.TargetError, ""), strings.Contains(one.Payload, `"single"`)
	}
	return transport.Receipt{}, false
}

// time is the context of an exchange: the attempt's, unless the fault ignores a part
// of it.
func (k *link) time(ctx context.Context) (context.Context, context.CancelFunc) {
	end, _ := ctx.Deadline()
	switch k.fault {
	case "ignores the deadline":
		end = end.Add(2 * late)
	case "does not come back":
		end = end.Add(patience + 2*late) // and then it does: no goroutine is left
	case "ignores a cancel":
		return context.WithDeadline(context.WithoutCancel(ctx), end)
	default:
		return ctx, func() {}
	}
	timed, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	return timed, cancel
}

// wrongAfter is what a fault makes of the receipt.
func (k *link) wrongAfter(m *transport.Message, r transport.Receipt, word string, written bool) transport.Receipt {
	payload := string(m.Payload)
	switch k.fault {
	case "down is unknown":
		if r.Code == transport.ConnectionRefused {
			r.Effect = transport.Unknown
		}
	case "slow is none":
		if r.Code == transport.Timeout {
			r.Effect = transport.None
		}
	case "slow is delivered":
		if r.Code == transport.Timeout && strings.Contains(payload, "slow") {
			return done
		}
	case "rejected is delivered":
		if word == "no" {
			return done
		}
	case "delivered if it was down":
		if !written && strings.Contains(payload, `"restart"`) {
			return done
		}
	case "one of many twice":
		if payload == `{"n":7}` {
			_, _, _ = k.exchange(context.Background(), line{m.ID, k.settings.Token, payload})
		}
	case "wrong password is refused":
		if word == "who" {
			r.Code = transport.ConnectionRefused
		}
	case "own code":
		if strings.Contains(payload, `"delivers"`) {
			r.Code = "kaputt"
		}
	case "half done":
		if strings.Contains(payload, `"delivers"`) {
			r.Code = transport.TargetError
		}
	case "two lines":
		if strings.Contains(payload, `"delivers"`) {
			r.Detail = "a\nb"
		}
	case "tells the secret":
		r.Detail = "token " + k.settings.Token
	case "tells the payload":
		if strings.Contains(payload, recordMark) {
			r.Detail = "sent the entry of " + recordMark
		}
	}
	return r
}

// Every check can fail: each fault is found, by the check that is for it and by no
// other.
func TestWrongTransportsFail(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const value, grpc, process = "value", "grpc", "process"
	found := map[string]bool{}
	for _, tt := range []struct{ way, fault, check string }{
		{process, "another version", "shakes hands"},
		{process, "no certificate", "shakes hands"},
		{process, "public socket", "shakes hands"},
		{process, "says nothing", "shakes hands"},
		{process, "greets", "keeps standard output clean"},
		{process, "prints", "keeps standard output clean"},
		{value, "no version", "describes itself"},
		{value, "no secret marked", "has a schema of its settings"},
		{value, "bad schema", "has a schema of its settings"},
		{value, "refuses good settings", "takes good settings"},
		{value, "takes anything", "refuses bad settings"},
		{value, "takes any type", "has a schema of its settings"},
		{value, "does not name the field", "refuses bad settings"},
		{value, "connects at once", "starts while the target is down"},
		{value, "loses", "delivers"},
		{value, "changes", "delivers"},
		{value, "own code", "delivers"},
		{value, "half done", "delivers"},
		{value, "two lines", "delivers"},
		{value, "takes equal payloads for one", "delivers"},
		{value, "claims to be idempotent", "delivers a message again"},
		{value, "refuses what it knows", "delivers a message again"},
		{value, "cuts", "delivers a big message"},
		{value, "one of many twice", "delivers concurrently"},
		{value, "check delivers", "answers a check"},
		{value, "check always well", "answers a check"},
		{value, "claims after the end", "takes an ended attempt"},
		{value, "sends after the end", "takes an ended attempt"},
		{value, "down is unknown", "tells that the target is down"},
		{value, "never recovers", "recovers when the target is back"},
		{value, "delivered if it was down", "loses nothing when the target restarts"},
		{value, "slow is none", "ends at the deadline"},
		{value, "slow is delivered", "ends at the deadline"},
		{value, "ignores the deadline", "ends at the deadline"},
		{value, "does not come back", "ends at the deadline"},
		{value, "ignores a cancel", "ends when it is cancelled"},
		{grpc, "ignores a cancel", "ends when it is cancelled"},
		{value, "rejected is delivered", "tells that the target rejects"},
		{value, "wrong password is refused", "tells of a wrong password"},
		{grpc, "serves streams only", "answers single calls"},
		{process, "leaves a lock", "comes back after a crash"},
		{process, "outlives its host", "ends with its host"},
		{process, "does not end", "ends when told"},
		{process, "ends with a code", "ends when told"},
		{value, "quotes the value", "tells no secret and no record"},
		{value, "tells the secret", "tells no secret and no record"},
		{value, "tells the payload", "tells no secret and no record"},
		{process, "logs its secret", "tells no secret and no record"},
		{process, "logs the payload", "tells no secret and no record"},
	} {
		found[tt.check] = true
		t.Run(tt.way+"/"+tt.fault, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			s := subject(tt.fault)
			if tt.way == process {
				s.New, s.Command = nil, []string{exe, "plugin", tt.fault}
			}
			// A fault is found each time; on a busy machine a deadline may be missed too.
			for try := 1; ; try++ {
				failed := failures(t, s, tt.way)
				if slices.Equal(slices.Sorted(maps.Keys(failed)), []string{tt.check}) {
					return
				}
				if try == 3 || !slices.ContainsFunc(timely, func(check string) bool { return check != tt.check && failed[check] != nil }) {
					t.Fatalf("found by %q, want %q alone", failed, tt.check)
				}
			}
		})
	}
	for _, c := range subject("").checks() {
		if !found[c.name] {
			t.Errorf("no wrong plugin proves that %q can fail", c.name)
		}
	}
}

// timely are the checks that measure how late something comes.
var timely = []string{"ends at the deadline", "ends when it is cancelled"}

// failures runs the suite one way: what each check has found.
func failures(t *testing.T, s Subject, name string) map[string][]string {
	report := &Report{}
	for _, w := range ways {
		if w.name == name {
			report.run(t.Context(), s, w, quick(s, w), nil)
		}
	}
	failed := map[string][]string{}
	for _, r := range report.Results {
		if r.Outcome == Failed {
			failed[r.Check] = r.Failures
		}
		for _, text := range append(slices.Clone(r.Failures), r.Notes...) {
			if strings.Contains(text, lineSecret) || strings.Contains(text, hidden) {
				t.Errorf("the report holds a secret: %s", r.Check)
			}
		}
	}
	return failed
}

// quick leaves out, of a process, what the other two ways have checked: each check
// starts one.
func quick(s Subject, w way) (out []check) {
	for _, c := range s.checks() {
		if w.name != "process" || c.ways != nil || c.gate != "" || c.last || c.name == "delivers" {
			out = append(out, c)
		}
	}
	return out
}

func subject(fault string) Subject {
	return Subject{
		New:    func() transport.Transport { return &link{fault: fault} },
		Target: newLines(fault == "idempotent"),
		States: []State{Down, Slow, Rejecting},
		Secret: lineSecret,
		Bad:    []BadSettings{{Name: "a number", Settings: json.RawMessage(`{"address":"127.0.0.1:1","token":471147}`), Field: "token", Hidden: "471147"}},
		Faults: []Fault{{
			Name: "a wrong password", Effect: transport.None, Codes: []transport.Code{transport.UnauthorizedByTarget},
			Settings: func(to Target) json.RawMessage {
				return json.RawMessage(strings.Replace(string(to.Settings()), lineSecret, "wrong", 1))
			},
		}},
	}
}
