package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// lines is a target of its own: a server that takes a line of JSON and answers with
// a word.
type lines struct {
	tb      testing.TB
	address string

	mu       sync.Mutex
	state    State
	listener net.Listener
	open     map[net.Conn]bool
	got      [][]byte
	seen     map[string]bool
	dedup    bool // it knows a message by its id
	serving  sync.WaitGroup
}

const lineSecret = "correct-horse-battery"

func newLines(dedup bool) func(testing.TB) Target {
	return func(tb testing.TB) Target {
		l := &lines{tb: tb, address: targettest.ClosedAddr(tb), open: map[net.Conn]bool{}, seen: map[string]bool{}, dedup: dedup}
		l.Set(Up)
		tb.Cleanup(func() { l.Set(Down); l.serving.Wait() })
		return l
	}
}

func (l *lines) Settings() json.RawMessage {
	out, _ := json.Marshal(map[string]any{"address": l.address, "token": lineSecret})
	return out
}

func (l *lines) Set(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	switch {
	case s == Down && l.listener != nil:
		_ = l.listener.Close()
		l.listener = nil
		for c := range l.open {
			_ = c.Close()
		}
	case s != Down && l.listener == nil:
		listener, err := net.Listen("tcp", l.address)
		if err != nil {
			l.tb.Fatal(err)
		}
		l.listener, l.address = listener, listener.Addr().String()
		l.serving.Go(func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				l.mu.Lock()
				if l.listener != listener { // down meanwhile
					_ = c.Close()
				}
				l.open[c] = true
				l.mu.Unlock()
				l.serving.Go(func() { l.serve(c) })
			}
		})
	}
}

type line struct {
	ID      string `json:"id"`
	Token   string `json:"token"`
	Payload string `json:"payload"`
}

func (l *lines) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		l.mu.Lock()
		delete(l.open, c)
		l.mu.Unlock()
	}()
	in := bufio.NewReader(c)
	for {
		text, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var one line
		if json.Unmarshal(text, &one) != nil {
			return
		}
		if word := l.take(one); word != "" {
			fmt.Fprintln(c, word)
		}
	}
}

func (l *lines) take(one line) (word string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case one.Token != lineSecret:
		return "who"
	case l.state == Rejecting:
		return "no"
	case l.state == Down:
		return ""
	}
	if !l.dedup || !l.seen[one.ID] {
		l.got = append(l.got, []byte(one.Payload))
	}
	l.seen[one.ID] = true
	if l.state == Slow {
		return ""
	}
	return "ok"
}

func (l *lines) Received() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([][]byte(nil), l.got...)
}

// link is a good transport to lines. Its fault makes it wrong in one way, which
// one check must find.
type link struct {
	fault    string
	settings struct{ Address, Token string }
	lock     string

	mu     sync.Mutex
	failed bool // the last attempt did
	worked bool // an earlier one did
	known  map[string]bool
}

func (k *link) Describe() transport.Description {
	d := transport.Description{
		Name: "line", Version: "1.0.0", Idempotent: strings.Contains(k.fault, "idempotent"),
		Settings: json.RawMessage(`{"type":"object","additionalProperties":false,"required":["address"],"properties":{
			"address":{"type":"string"},"token":{"type":"string","writeOnly":true},
			"retry":{"type":"object","properties":{"times":{"type":"integer"}}}}}`),
	}
	switch k.fault {
	case "no version":
		d.Version = ""
	case "bad schema":
		d.Settings = json.RawMessage(`{"type":"object","required":"address"}`)
	case "no secret marked":
		d.Settings = json.RawMessage(`{"type":"object"}`)
	case "takes anything":
		d.Settings = json.RawMessage(`{"type":"object","properties":{"token":{"type":"string","writeOnly":true}}}`)
	case "takes any type":
		d.Settings = json.RawMessage(`{"type":"object","additionalProperties":false,"properties":{
			"address":{"type":"string"},"token":{"type":"string","writeOnly":true},"retry":{"type":"object","properties":{"times":{}}}}}`)
	case "does not name the field", "quotes the value":
		d.Settings = json.RawMessage(`{"type":"object","properties":{"token":{"type":["string","number"],"writeOnly":true}}}`)
	}
	return d
}

func (k *link) Configure(ctx context.Context, raw json.RawMessage) error {
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	for name, value := range all {
		_, text := value.(string)
		_, table := value.(map[string]any)
		switch {
		case name != "address" && name != "token" && name != "retry" && k.fault != "takes anything":
			return &transport.SettingError{Field: name, Rule: "unknown"}
		case name == "retry" && table, text, k.fault == "takes anything":
		case k.fault == "does not name the field":
			return &transport.SettingError{Rule: "wrong"}
		case k.fault == "quotes the value":
			return &transport.SettingError{Field: name, Rule: fmt.Sprintf("must not be %v", value)}
		default:
			return &transport.SettingError{Field: name, Rule: "must be a string"}
		}
	}
	k.settings.Address, _ = all["address"].(string)
	k.settings.Token, _ = all["token"].(string)
	switch k.fault {
	case "refuses good settings":
		return &transport.SettingError{Field: "address", Rule: "is not liked"}
	case "logs its secret":
		slog.Info("connecting", "token", k.settings.Token)
	case "connects at once":
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", k.settings.Address)
		if err != nil {
			return &transport.SettingError{Field: "address", Rule: "must be reachable"}
		}
		return c.Close()
	case "leaves a lock":
		lock := filepath.Join(os.TempDir(), "lock-"+strings.ReplaceAll(k.settings.Address, ":", "-"))
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("locked by another: %w", err)
		}
		k.lock = lock
		return f.Close()
	}
	return nil
}

func (k *link) Close() error {
	if k.fault == "fails to close" {
		return errors.New("it is stuck")
	}
	if k.lock != "" {
		return os.Remove(k.lock)
	}
	return nil
}

var done = transport.Receipt{Effect: transport.Done, Code: transport.Delivered}

// exchange sends one line and reads the answer.
func (k *link) exchange(ctx context.Context, one line) (word string, written bool, err error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", k.settings.Address)
	if err != nil {
		return "", false, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	text, err := json.Marshal(one)
	if err != nil {
		return "", false, err
	}
	if _, err := c.Write(append(text, '\n')); err != nil {
		return "", true, err
	}
	word, err = bufio.NewReader(c).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimSpace(word), true, err
}

func (k *link) Deliver(ctx context.Context, m *transport.Message) transport.Receipt {
	if ctx.Err() != nil && k.fault != "claims after the end" && k.fault != "sends after the end" {
		return transport.Failed(transport.None, transport.Timeout, "")
	}
	one := line{m.ID, k.settings.Token, string(m.Payload)}
	if r, ends := k.wrongBefore(ctx, &one); ends {
		return r
	}
	timed, cancel := k.time(ctx)
	defer cancel()
	word, written, err := k.exchange(timed, one)
	r := k.receipt(timed, word, written, err)
	k.mu.Lock()
	k.failed, k.worked = r.Effect != transport.Done, k.worked || r.Effect == transport.Done
	k.mu.Unlock()
	return k.wrongAfter(m, r, word, written)
}

func (k *link) receipt(ctx context.Context, word string, written bool, err error) transport.Receipt {
	effect := transport.None
	if written {
		effect = transport.Unknown
	}
	switch {
	case err == nil && word == "ok":
		return done
	case err == nil && word == "no":
		return transport.Failed(transport.None, transport.RejectedByTarget, "")
	case err == nil && word == "who":
		return transport.Failed(transport.None, transport.UnauthorizedByTarget, "")
	case ctx.Err() != nil:
		return transport.Failed(effect, transport.Timeout, "")
	case written:
		return transport.Failed(effect, transport.ConnectionReset, "")
	}
	return transport.Failed(effect, transport.ConnectionRefused, k.settings.Address)
}

func (k *link) Check(ctx context.Context) transport.Receipt {
	if k.fault == "check delivers" {
		_, _, _ = k.exchange(ctx, line{"check", k.settings.Token, "ping"})
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", k.settings.Address)
	switch {
	case k.fault == "check always well":
		return done
	case err != nil:
		return transport.Failed(transport.None, transport.ConnectionRefused, k.settings.Address)
	}
	_ = c.Close()
	return done
}
