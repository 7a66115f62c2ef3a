package file_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/file"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// What the test binary is when it is executed again.
const (
	modePlugin = "plugin" // the conformance suite's child
	modeAs     = "as"     // another user; args: a path
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case modePlugin:
			plugins.Serve(newStalling())
			syscall.Exit(0) // not os.Exit: with -race it sleeps a second
		case modeAs:
			runAs(os.Args[2])
			syscall.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

// stallSuffix names what makes a folder's disk hang for as long as it exists.
const stallSuffix = ".stall"

// newStalling is the transport on a disk that a test can make hang, from outside
// the process too.
func newStalling() *file.Transport {
	return file.New(file.WithSync(func(f *os.File) error {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ; exists(filepath.Dir(f.Name()) + stallSuffix); <-tick.C {
		}
		return f.Sync()
	}))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

type obj = map[string]any

// configured returns a transport with the settings, closed at the test's end.
func configured(t testing.TB, s obj, opts ...file.Option) *file.Transport {
	t.Helper()
	tr := file.New(opts...)
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Configure(t.Context(), raw); err != nil {
		t.Fatalf("configure: %v", err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

const payloadText = `{"trans_id":"435","patient":"payload-secret"}`

func message() *transport.Message {
	return &transport.Message{
		ID: "msg_1", EventID: "0198c0de-0000-7000-8000-000000000001", DeliveryID: "d1", Attempt: 1,
		Hook: "abc-123", Route: "archive", Study: "ABC/123", Stage: "live", Lane: "abc-123/archive/435", Kind: "update",
		ReceivedAt:  time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		ContentType: "application/json",
		Payload:     []byte(payloadText),
	}
}

func numbered(payload string) *transport.Message {
	m := message()
	m.Payload = []byte(payload)
	return m
}

// deliver makes one attempt with a deadline that only a hanging disk meets.
func deliver(t testing.TB, tr *file.Transport, m *transport.Message) transport.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return tr.Deliver(ctx, m)
}

// want is targettest.Want for a transport whose targets have no status.
func want(t testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code) {
	t.Helper()
	targettest.Want(t, r, effect, code, 0)
}

// lines are the file's lines, each of which must have an end.
func lines(t testing.TB, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) == 0 {
		return nil
	}
	if !bytes.HasSuffix(data, []byte("\n")) {
		t.Errorf("%s has a last line without an end: %q", path, data)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runAs delivers and checks in a process of its own, and prints the receipts.
func runAs(path string) {
	tr := file.New()
	settings, _ := json.Marshal(obj{"path": path})
	if err := tr.Configure(context.Background(), settings); err != nil {
		panic(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(obj{
		"Deliver": tr.Deliver(context.Background(), message()),
		"Check":   tr.Check(context.Background()),
	})
	_ = tr.Close()
}
