//go:build unix

package targettest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// RabbitMQ is a node of a test's own.
type RabbitMQ struct {
	Server
	Addr, TLSAddr string // host:port
	CA            *Authority

	name           string
	user, password string
}

// debianRabbitMQ is where Debian's package has the programs that change to no other
// user.
const debianRabbitMQ = "/usr/lib/rabbitmq/bin"

// FindRabbitMQ is the program for [StartRabbitMQ]. Without one the test is left out.
func FindRabbitMQ(tb testing.TB) string {
	tb.Helper()
	program := Find("rabbitmq-server", debianRabbitMQ)
	if program == "" {
		Missing(tb, "RabbitMQ", "apt-get install rabbitmq-server")
	}
	return program
}

// StartRabbitMQ starts a node whose files are in dir, which takes some seconds. Its
// users have the password and may write to the exchanges that their pattern matches;
// the first is the one that the node itself is asked with. conf is added to
// rabbitmq.conf.
func StartRabbitMQ(program, dir, password, conf string, users ...[2]string) (*RabbitMQ, error) {
	n := &RabbitMQ{name: fmt.Sprintf("hookline-%d@localhost", os.Getpid()), user: users[0][0], password: password}
	var err error
	if n.CA, err = NewAuthority(dir); err != nil {
		return nil, err
	}
	cert, key, err := n.CA.Leaf("server")
	if err != nil {
		return nil, err
	}
	var ports [3]int
	for i := range ports {
		if ports[i], err = FreePort(); err != nil {
			return nil, err
		}
	}
	n.Addr, n.TLSAddr = "127.0.0.1:"+strconv.Itoa(ports[0]), "127.0.0.1:"+strconv.Itoa(ports[1])
	var accounts, permissions []map[string]string
	for _, u := range users {
		accounts = append(accounts, map[string]string{"name": u[0], "password": password, "tags": ""})
		permissions = append(permissions, map[string]string{"user": u[0], "vhost": "/", "configure": ".*", "write": u[1], "read": ".*"})
	}
	definitions, err := json.Marshal(map[string]any{"users": accounts, "permissions": permissions, "vhosts": []any{map[string]string{"name": "/"}}})
	if err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"definitions.json": string(definitions),
		"enabled_plugins":  "[].\n",
		"rabbitmq.conf": fmt.Sprintf(`listeners.tcp.1 = %s
listeners.ssl.1 = %s
ssl_options.cacertfile = %s
ssl_options.certfile = %s
ssl_options.keyfile = %s
disk_free_limit.absolute = 1MB
load_definitions = %s
%s`, n.Addr, n.TLSAddr, n.CA.CAFile, cert, key, in("definitions.json"), conf),
	} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	n.Server = Server{
		Program: program, Dir: dir, Within: 2 * time.Minute, Ready: n.ready,
		Env: []string{
			"RABBITMQ_NODENAME=" + n.name,
			"RABBITMQ_DIST_PORT=" + strconv.Itoa(ports[2]),
			"RABBITMQ_MNESIA_BASE=" + in("mnesia"),
			"RABBITMQ_LOG_BASE=" + in("log"),
			"RABBITMQ_PID_FILE=" + in("pid"),
			"RABBITMQ_CONFIG_FILE=" + in("rabbitmq.conf"),
			"RABBITMQ_ENABLED_PLUGINS_FILE=" + in("enabled_plugins"),
		},
	}
	return n, n.Start()
}

// Dial is a connection of the first user.
func (n *RabbitMQ) Dial() (*amqp091.Connection, error) {
	return amqp091.DialConfig("amqp://"+n.Addr, amqp091.Config{
		SASL: []amqp091.Authentication{&amqp091.PlainAuth{Username: n.user, Password: n.password}}, Vhost: "/",
		Dial: amqp091.DefaultDial(5 * time.Second),
	})
}

// ready tells whether somebody can log in.
func (n *RabbitMQ) ready() error {
	c, err := n.Dial()
	if err != nil {
		return err
	}
	return c.Close()
}

// Control is rabbitmqctl for the node.
func (n *RabbitMQ) Control(tb testing.TB, args ...string) {
	tb.Helper()
	cmd := exec.Command(Find("rabbitmqctl", debianRabbitMQ), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + n.Dir, "RABBITMQ_NODENAME=" + n.name}
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("rabbitmqctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Sync has the node's tables on the disk: for two seconds it keeps what is declared in
// its own memory, and a kill loses it.
func (n *RabbitMQ) Sync(tb testing.TB) {
	tb.Helper()
	n.Control(tb, "eval", "mnesia:sync_log().")
}
