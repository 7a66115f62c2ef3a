package amqp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/hookline/hookline/plugins"
	"github.com/hookline/hookline/plugins/amqp"
	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "plugin" { // the conformance suite's child
		plugins.Serve(amqp.New())
		return
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		rabbit.end()
		os.Exit(code)
	}))
}

// What the node is set up with.
const (
	user       = "hookline"
	reader     = "reader" // may publish nowhere
	password   = "correct-horse-battery"
	maxMessage = 512 << 10
)

// node is a RabbitMQ of this test's own: a shared one must not be killed.
type node struct {
	once       sync.Once
	dir        string
	err        error
	server     targettest.Server
	name       string
	plain, tls string // addresses
	ca         *targettest.Authority
}

var rabbit node

// rabbitmq is the folder of Debian's package where the programs are that need no
// other user.
const rabbitmq = "/usr/lib/rabbitmq/bin"

// broker starts the node for the first test that asks.
func broker(tb testing.TB) *node {
	tb.Helper()
	program := targettest.Find("rabbitmq-server", rabbitmq)
	if program == "" {
		targettest.Missing(tb, "RabbitMQ", "apt-get install rabbitmq-server")
	}
	rabbit.once.Do(func() { rabbit.err = rabbit.start(program) })
	if rabbit.err != nil {
		tb.Fatal(rabbit.err)
	}
	return &rabbit
}

func (n *node) start(program string) (err error) {
	if n.dir, err = os.MkdirTemp("", "hookline-amqp-"); err != nil {
		return err
	}
	if n.ca, err = targettest.NewAuthority(n.dir); err != nil {
		return err
	}
	cert, key, err := n.ca.Leaf("server")
	if err != nil {
		return err
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = targettest.FreePort(); err != nil {
			return err
		}
	}
	n.plain, n.tls = "127.0.0.1:"+strconv.Itoa(ports[0]), "127.0.0.1:"+strconv.Itoa(ports[1])
	n.name = fmt.Sprintf("hookline-%d@localhost", os.Getpid())
	users := make([]map[string]string, 0, 2)
	permissions := make([]map[string]string, 0, 2)
	for name, write := range map[string]string{user: ".*", reader: "^$"} {
		users = append(users, map[string]string{"name": name, "password": password, "tags": ""})
		permissions = append(permissions, map[string]string{"user": name, "vhost": "/", "configure": ".*", "write": write, "read": ".*"})
	}
	definitions, err := json.Marshal(map[string]any{"users": users, "permissions": permissions, "vhosts": []any{map[string]string{"name": "/"}}})
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"definitions.json": string(definitions),
		"enabled_plugins":  "[].\n",
		"rabbitmq.conf": fmt.Sprintf(`listeners.tcp.1 = %s
listeners.ssl.1 = %s
ssl_options.cacertfile = %s
ssl_options.certfile = %s
ssl_options.keyfile = %s
max_message_size = %d
disk_free_limit.absolute = 1MB
load_definitions = %s
`, n.plain, n.tls, n.ca.CAFile, cert, key, maxMessage, filepath.Join(n.dir, "definitions.json")),
	} {
		if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	n.server = targettest.Server{
		Program: program, Dir: n.dir, Within: 2 * time.Minute, Ready: n.ready,
		Env: append(n.env(),
			"RABBITMQ_DIST_PORT="+strconv.Itoa(ports[2]),
			"RABBITMQ_MNESIA_BASE="+filepath.Join(n.dir, "mnesia"),
			"RABBITMQ_LOG_BASE="+filepath.Join(n.dir, "log"),
			"RABBITMQ_PID_FILE="+filepath.Join(n.dir, "pid"),
			"RABBITMQ_CONFIG_FILE="+filepath.Join(n.dir, "rabbitmq.conf"),
			"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(n.dir, "enabled_plugins")),
	}
	return n.server.Start()
}

func (n *node) env() []string {
	return []string{"HOME=" + n.dir, "RABBITMQ_NODENAME=" + n.name}
}

// ready tells whether somebody can log in.
func (n *node) ready() error {
	c, err := n.dial()
	if err != nil {
		return err
	}
	return c.Close()
}

func (n *node) dial() (*amqp091.Connection, error) {
	return amqp091.DialConfig("amqp://"+n.plain, amqp091.Config{
		SASL: []amqp091.Authentication{&amqp091.PlainAuth{Username: user, Password: password}}, Vhost: "/",
		Dial: amqp091.DefaultDial(5 * time.Second),
	})
}

func (n *node) end() {
	n.server.Kill()
	if n.dir != "" {
		_ = os.RemoveAll(n.dir)
	}
}

// channel is one that the test itself uses.
func (n *node) channel(tb testing.TB) *amqp091.Channel {
	tb.Helper()
	c, err := n.dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	ch, err := c.Channel()
	if err != nil {
		tb.Fatal(err)
	}
	return ch
}

var queues atomic.Int64

// queue makes a durable queue that is there until the test's end, and returns its name.
func (n *node) queue(tb testing.TB, args amqp091.Table) string {
	tb.Helper()
	ch := n.channel(tb)
	name := fmt.Sprintf("q-%d", queues.Add(1))
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = n.channelOrNil().delete(name) })
	return name
}

// cleaner deletes queues after a node was killed as well.
type cleaner struct{ c *amqp091.Connection }

func (n *node) channelOrNil() cleaner {
	c, _ := n.dial()
	return cleaner{c}
}

func (d cleaner) delete(queue string) (int, error) {
	if d.c == nil {
		return 0, nil
	}
	defer func() { _ = d.c.Close() }()
	ch, err := d.c.Channel()
	if err != nil {
		return 0, err
	}
	return ch.QueueDelete(queue, false, false, false)
}

// drain takes all messages out of the queue.
func drain(tb testing.TB, ch *amqp091.Channel, queue string) (out []amqp091.Delivery) {
	tb.Helper()
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			tb.Error(err)
		}
		if !ok {
			return out
		}
		out = append(out, d)
	}
}

type obj = map[string]any

func (n *node) settings(more obj) obj {
	out := obj{"address": n.plain, "username": user, "password": password}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// configured returns a transport with the settings, closed at the test's end.
func configured(tb testing.TB, s obj) *amqp.Transport {
	tb.Helper()
	tr := amqp.New(amqp.WithVersion("1.2.3"))
	if err := tr.Configure(tb.Context(), raw(s)); err != nil {
		tb.Fatalf("configure: %v", err)
	}
	tb.Cleanup(func() { _ = tr.Close() })
	return tr
}

func raw(s obj) json.RawMessage {
	out, _ := json.Marshal(s) // it is made of texts and numbers
	return out
}

const payloadText = `{"trans_id":"435","patient":"payload-secret"}`

func message() *transport.Message {
	return &transport.Message{
		ID: "msg_1", EventID: "0198c0de-0000-7000-8000-000000000001", DeliveryID: "d1", Attempt: 2, Kind: "update",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		ContentType: "application/json",
		Payload:     []byte(payloadText),
	}
}

// deliver makes one attempt with a deadline that only a hanging broker meets.
func deliver(tb testing.TB, tr *amqp.Transport, m *transport.Message) transport.Receipt {
	tb.Helper()
	return within(tr, m, 10*time.Second)
}

func within(tr *amqp.Transport, m *transport.Message, d time.Duration) transport.Receipt {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return tr.Deliver(ctx, m)
}

// want compares what a receipt says surely.
func want(tb testing.TB, r transport.Receipt, effect transport.Effect, code transport.Code, status int) {
	tb.Helper()
	if r.Effect != effect || r.Code != code || r.TargetStatus != status {
		tb.Errorf("got %s/%s status %d (%s), want %s/%s status %d", r.Code, r.Effect, r.TargetStatus, r.Detail, code, effect, status)
	}
	if r.Detail == "" || strings.ContainsAny(r.Detail, "\r\n") || strings.Contains(r.Detail, "secret") || strings.Contains(r.Detail, password) {
		tb.Errorf("detail is empty, or has a line break or a secret: %q", r.Detail)
	}
}

// closedAddr is an address that nothing listens on.
func closedAddr(tb testing.TB) string {
	tb.Helper()
	port, err := targettest.FreePort()
	if err != nil {
		tb.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// fields lists the SettingErrors that err joins.
func fields(tb testing.TB, err error) (out []string) {
	tb.Helper()
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			out = append(out, fields(tb, e)...)
		}
		return out
	}
	var se *transport.SettingError
	if !errors.As(err, &se) {
		tb.Fatalf("not a SettingError: %v", err)
	}
	return []string{se.Field}
}
