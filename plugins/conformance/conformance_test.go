package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/transport"
)

// The test binary is a plugin as well: "plugin" and a fault.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "plugin" {
		plugins.Serve(&link{m: &memory{fault: os.Args[2], state: Up}})
		return
	}
	goleak.VerifyTestMain(m)
}

// memory is a target and a good transport to it. Each fault makes the transport
// wrong in one way, which one check must find.
type memory struct {
	fault string

	mu    sync.Mutex
	state State
	got   [][]byte
	seen  map[string]bool // ids of messages
}

func (m *memory) Settings() json.RawMessage { return json.RawMessage(`{"token":"top-secret"}`) }

func (m *memory) Set(s State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
}

func (m *memory) Received() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([][]byte(nil), m.got...)
}

func (m *memory) now() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

func (m *memory) take(p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, p)
}

// again tells whether the message was seen before.
func (m *memory) again(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = map[string]bool{}
	}
	defer func() { m.seen[id] = true }()
	return m.seen[id]
}

// link is the transport to a memory.
type link struct {
	m      *memory
	broken bool
}

func (l *link) Describe() transport.Description {
	d := transport.Description{Name: "memory", Version: "1", Idempotent: strings.Contains(l.m.fault, "idempotent"), Settings: json.RawMessage(
		`{"type":"object","additionalProperties":false,"properties":{"token":{"type":"string","writeOnly":true}}}`)}
	switch l.m.fault {
	case "no version":
		d.Version = ""
	case "bad schema":
		d.Settings = json.RawMessage(`{"type":"objekt"}`)
	case "no secret marked", "takes anything", "does not name the field", "quotes the value":
		d.Settings = json.RawMessage(`{"type":"object"}`)
	}
	return d
}

func (l *link) Configure(_ context.Context, raw json.RawMessage) error {
	var s map[string]any
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if l.m.fault == "logs its secret" {
		fmt.Fprintln(os.Stderr, "connecting with", s["token"])
	}
	for k, v := range s {
		_, text := v.(string)
		switch {
		case k != "token" && l.m.fault != "takes anything":
			return &transport.SettingError{Field: k, Rule: "unknown"}
		case k == "token" && !text && l.m.fault == "does not name the field":
			return &transport.SettingError{Rule: "wrong"}
		case k == "token" && !text && l.m.fault == "quotes the value":
			return &transport.SettingError{Field: k, Rule: fmt.Sprint(v)}
		case k == "token" && !text:
			return &transport.SettingError{Field: k, Rule: "must be a string"}
		}
	}
	return nil
}

func (l *link) Deliver(ctx context.Context, msg *transport.Message) transport.Receipt {
	done := transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
	fault := l.m.fault
	if ctx.Err() != nil {
		if fault == "claims after the end" {
			return done
		}
		return transport.Failed(transport.None, transport.Timeout, "")
	}
	switch l.m.now() {
	case Down:
		l.broken = fault == "never recovers"
		if fault == "down is unknown" {
			return transport.Failed(transport.Unknown, transport.ConnectionRefused, "")
		}
		return transport.Failed(transport.None, transport.ConnectionRefused, "")
	case Slow:
		if deadline, _ := ctx.Deadline(); fault == "ignores a cancel" {
			time.Sleep(min(time.Until(deadline), 3*late+100*time.Millisecond))
		}
		<-ctx.Done()
		switch fault {
		case "slow is none":
			return transport.Failed(transport.None, transport.Timeout, "")
		case "ignores the deadline":
			time.Sleep(2 * late)
		case "does not come back":
			time.Sleep(patience + 2*late) // and then it does: no goroutine is left
		}
		return transport.Failed(transport.Unknown, transport.Timeout, "")
	case Rejecting:
		if fault == "rejected is delivered" {
			return done
		}
		return transport.Failed(transport.None, transport.RejectedByTarget, "")
	}
	payload := msg.Payload
	again := l.m.again(msg.ID)
	switch {
	case again && fault == "idempotent":
		return done
	case again && fault == "refuses what it knows":
		return transport.Failed(transport.None, transport.RejectedByTarget, "")
	case fault == "takes equal payloads for one" && l.m.again(string(payload)):
		return done
	case fault == "compacts" && json.Valid(payload):
		payload, _ = json.Marshal(json.RawMessage(payload))
	case l.broken:
		return transport.Failed(transport.None, transport.ConnectionRefused, "")
	case fault == "loses":
		return done
	case fault == "changes" && len(payload) > 3:
		payload = append([]byte(" "), payload...)
	case fault == "cuts" && len(payload) > 1<<16:
		payload = payload[:1<<16]
	case fault == "one of many twice" && string(payload) == `{"n":7}`:
		l.m.take(payload)
	case fault == "own code":
		return transport.Failed(transport.None, "kaputt", "")
	case fault == "half done":
		done.Code = transport.TargetError
	case fault == "two lines":
		done.Detail = "a\nb"
	case fault == "tells the secret":
		done.Detail = "token top-secret"
	case fault == "tells the payload":
		done.Detail = "sent " + string(payload)
	}
	l.m.take(payload)
	return done
}

func (l *link) Check(context.Context) transport.Receipt {
	if l.m.fault == "check delivers" {
		l.m.take([]byte("ping"))
	}
	if l.m.now() == Down && l.m.fault != "check always well" {
		return transport.Failed(transport.None, transport.ConnectionRefused, "")
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered}
}

func subject(fault string) Subject {
	var m *memory
	return Subject{
		New: func() transport.Transport {
			if m == nil {
				m = &memory{fault: fault, state: Up}
			}
			return &link{m: m}
		},
		Target: func(testing.TB) Target {
			m = &memory{fault: fault, state: Up}
			return m
		},
		States: []State{Down, Slow, Rejecting},
		Secret: "top-secret",
		Bad:    []BadSettings{{Name: "a number", Settings: json.RawMessage(`{"token":471147}`), Field: "token", Hidden: "471147"}},
	}
}

func TestAGoodTransportPasses(t *testing.T) { Test(t, subject("")) }

// A target that knows a message by its id passes too.
func TestAnIdempotentTransportPasses(t *testing.T) { Test(t, subject("idempotent")) }

// recorder takes a check's failures instead of the test.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// Every check can fail: each fault is found, by the check that is for it.
func TestWrongTransportsFail(t *testing.T) {
	for fault, found := range map[string]string{
		"no version":                   "describes itself",
		"bad schema":                   "describes itself",
		"no secret marked":             "describes itself",
		"takes anything":               "refuses bad settings",
		"does not name the field":      "refuses bad settings",
		"quotes the value":             "refuses bad settings",
		"loses":                        "delivers",
		"changes":                      "delivers",
		"own code":                     "delivers",
		"half done":                    "delivers",
		"two lines":                    "delivers",
		"tells the secret":             "delivers",
		"tells the payload":            "delivers",
		"compacts":                     "delivers",
		"takes equal payloads for one": "delivers",
		"claims to be idempotent":      "delivers a message again",
		"refuses what it knows":        "delivers a message again",
		"cuts":                         "delivers a megabyte",
		"one of many twice":            "delivers concurrently",
		"check delivers":               "answers a check",
		"check always well":            "answers a check",
		"claims after the end":         "takes an ended attempt",
		"down is unknown":              "tells that the target is down",
		"never recovers":               "recovers when the target is back",
		"slow is none":                 "ends at the deadline",
		"ignores the deadline":         "ends at the deadline",
		"does not come back":           "ends at the deadline",
		"ignores a cancel":             "ends when it is cancelled",
		"rejected is delivered":        "tells that the target rejects",
	} {
		t.Run(fault, func(t *testing.T) {
			for _, c := range checks {
				if c.name != found {
					continue
				}
				r := &recorder{TB: t}
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() {
						for i := len(r.cleanups) - 1; i >= 0; i-- {
							r.cleanups[i]()
						}
					}()
					c.run(r, bench{subject(fault), ways[0]})
				}()
				<-done
				if len(r.failures) == 0 {
					t.Errorf("%q passes a transport that %q", found, fault)
				}
				if strings.Contains(strings.Join(r.failures, " "), "471147") && fault == "quotes the value" {
					t.Error("the report holds the value")
				}
				return
			}
			t.Fatalf("there is no check %q", found)
		})
	}
}

// What a plugin's process writes is looked at too.
func TestTheOutputIsSearched(t *testing.T) {
	r := &recorder{TB: t}
	b := bench{subject(""), way{start: func(_ testing.TB, s Subject, _ json.RawMessage, log io.Writer) (instance, func(), error) {
		fmt.Fprintln(log, "connecting with top-secret")
		return value{s.New()}, func() {}, nil
	}}}
	b.start(r, b.Target(r))
	for _, f := range r.cleanups {
		f()
	}
	if len(r.failures) != 1 {
		t.Errorf("failures %q", r.failures)
	}
}

// The host hides a secret that a process writes; the suite still finds it.
func TestAHiddenSecretIsFound(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for fault, want := range map[string]int{"none": 0, "logs its secret": 1} {
		r := &recorder{TB: t}
		s := subject("")
		s.Command = []string{exe, "plugin", fault}
		b := bench{s, way{start: startProcess}}
		b.start(r, b.Target(r))
		for _, f := range r.cleanups {
			f()
		}
		if len(r.failures) != want {
			t.Errorf("%s: failures %q", fault, r.failures)
		}
	}
}
