package sql_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// private is a server of the test's own, with passwords and TLS, that may be killed.
type private struct {
	server
	t       *testing.T
	dir     string // readable by the server's user
	ca      string // PEM file of who signed its certificate
	command []string
	cred    *syscall.Credential

	process *exec.Cmd
}

const administrator = "pa55word-secret"

// onPrivate runs the test on a new server of each kind.
func onPrivate(t *testing.T, f func(t *testing.T, p *private)) {
	for dialect, start := range map[string]func(*testing.T, *private) bool{"postgres": installPostgres, "mariadb": installMaria} {
		t.Run(dialect, func(t *testing.T) {
			p := &private{t: t}
			p.server = server{dialect: dialect, address: freeAddress(t), password: administrator}
			p.makeDir()
			if !start(t, p) {
				return
			}
			p.start()
			t.Cleanup(p.kill)
			f(t, p)
		})
	}
}

// makeDir makes a folder and finds whom the server can run as: neither runs as root.
func (p *private) makeDir() {
	p.t.Helper()
	dir, err := os.MkdirTemp("", "hookline-sql-")
	if err != nil {
		p.t.Fatal(err)
	}
	p.dir = dir
	p.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Getuid() != 0 {
		return
	}
	who, err := user.Lookup("nobody")
	if err != nil {
		p.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	p.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(dir, uid, gid); err != nil {
		p.t.Fatal(err)
	}
}

func (p *private) write(name string, content []byte, mode os.FileMode) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, content, mode); err != nil {
		p.t.Fatal(err)
	}
	if p.cred != nil {
		if err := os.Chown(path, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
			p.t.Fatal(err)
		}
	}
	return path
}

func (p *private) tool(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true}
	return cmd
}

func (p *private) run(name string, args ...string) {
	p.t.Helper()
	if out, err := p.tool(name, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// find looks where distributions put servers.
func find(t *testing.T, name, of string, places ...string) string {
	for _, place := range append(places, "/usr/sbin/"+name, "/usr/bin/"+name, "/usr/local/bin/"+name) {
		if found, _ := filepath.Glob(place); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	fmt.Printf("!!! plugins/sql was not tested on a killed, stopped and wrongly secured %s: %s is not installed; Debian has it in %s\n", t.Name(), name, of)
	return ""
}

func installPostgres(t *testing.T, p *private) bool {
	initdb := find(t, "initdb", "postgresql", "/usr/lib/postgresql/*/bin/initdb")
	if initdb == "" {
		return false
	}
	p.username, p.database, p.query = "postgres", "postgres", "?sslmode=require"
	data := filepath.Join(p.dir, "data")
	p.run(initdb, "-D", data, "-U", p.username, "--auth=scram-sha-256", "--pwfile", p.write("password", []byte(administrator), 0o600), "--no-sync", "-E", "UTF8", "--no-locale")
	p.certify()
	_, port, _ := net.SplitHostPort(p.address)
	p.command = []string{
		filepath.Join(filepath.Dir(initdb), "postgres"), "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port=" + port,
		"-c", "unix_socket_directories=", "-c", "lock_timeout=300ms", "-c", "shared_buffers=16MB", "-c", "max_connections=30",
		"-c", "ssl=on", "-c", "ssl_cert_file=" + p.dir + "/server.crt", "-c", "ssl_key_file=" + p.dir + "/server.key",
	}
	return true
}

func installMaria(t *testing.T, p *private) bool {
	mariadbd, install := find(t, "mariadbd", "mariadb-server"), find(t, "mariadb-install-db", "mariadb-server")
	if mariadbd == "" || install == "" {
		return false
	}
	p.username, p.database = "root", "mysql"
	data := filepath.Join(p.dir, "data")
	p.run(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=8M")
	p.certify()
	_, port, _ := net.SplitHostPort(p.address)
	p.command = []string{
		mariadbd, "--no-defaults", "--datadir=" + data, "--bind-address=127.0.0.1", "--port=" + port, "--socket=" + p.dir + "/sock",
		"--pid-file=" + p.dir + "/pid", "--skip-name-resolve", "--innodb-lock-wait-timeout=1", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M",
		"--init-file=" + p.write("init.sql", []byte("set password for root@localhost = password('"+administrator+"');\ncreate or replace user root@'127.0.0.1' identified by '"+administrator+"';\ngrant all on *.* to root@'127.0.0.1' with grant option;\n"), 0o600),
		"--ssl-cert=" + p.dir + "/server.crt", "--ssl-key=" + p.dir + "/server.key", "--ssl-ca=" + p.ca,
		"--max-allowed-packet=1M",
	}
	return true
}

// certify makes an authority and the server's certificate for 127.0.0.1.
func (p *private) certify() {
	p.t.Helper()
	make := func(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			p.t.Fatal(err)
		}
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Date(2100, 1, 2, 0, 0, 0, 0, time.UTC),
			BasicConstraintsValid: true, IsCA: parent == nil, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		if parent == nil {
			parent, signer = cert, key
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
		if err != nil {
			p.t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			p.t.Fatal(err)
		}
		p.write(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
		p.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
		return cert, key
	}
	cert, key := make("ca", nil, nil)
	make("server", cert, key)
	make("other", nil, nil)
	p.ca = filepath.Join(p.dir, "ca.crt")
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start waits until somebody can log in. After a kill PostgreSQL does not start before
// the last of its old processes has gone.
func (p *private) start() {
	p.t.Helper()
	log := filepath.Join(p.dir, "log")
	for end := time.Now().Add(time.Minute); ; {
		out, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			p.t.Fatal(err)
		}
		p.process = p.tool(p.command[0], p.command[1:]...)
		p.process.Stdout, p.process.Stderr = out, out
		err = p.process.Start()
		_ = out.Close()
		if err != nil {
			p.t.Fatal(err)
		}
		gone := make(chan struct{})
		go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(gone) }(p.process)
		for alive := true; alive; {
			if p.reachable() {
				return
			}
			select {
			case <-gone:
				alive = false
			case <-time.After(50 * time.Millisecond):
			}
			if time.Now().After(end) {
				text, _ := os.ReadFile(log)
				p.t.Fatalf("it does not start:\n%s", text[max(0, len(text)-3000):])
			}
		}
	}
}

func (p *private) reachable() bool {
	db := p.open(p.t)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return db.PingContext(ctx) == nil
}

// processes are the server's own and its children.
func (p *private) processes() []int {
	pids := []int{p.process.Process.Pid}
	list, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range list {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has gone
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pids[0]) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (p *private) signal(s syscall.Signal) {
	for _, pid := range p.processes() {
		_ = syscall.Kill(pid, s)
	}
}

// kill ends all of the server at once.
func (p *private) kill() { p.signal(syscall.SIGKILL) }

func TestPrivateServer(t *testing.T) {
	onPrivate(t, func(t *testing.T, p *private) {
		t.Run("secrets", p.testSecrets)
		t.Run("limits", p.testLimits)
		t.Run("stopped", p.testStopped)
		t.Run("killed", p.testKilled)
	})
}

func (p *private) testSecrets(t *testing.T) {
	db := p.open(t)
	table := p.table(t, db, "id TEXT primary key")
	work := obj{"table": table, "columns": obj{"id": ":id"}}
	settings := func(more obj) obj {
		out := p.settings(work)
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	ca, other := obj{"ca_file": p.ca}, obj{"ca_file": filepath.Join(p.dir, "other.crt")}
	for _, c := range []struct {
		name     string
		settings obj
		effect   transport.Effect
		code     transport.Code
		words    string
	}{
		{"without TLS", settings(nil), transport.Done, transport.Delivered, ""},
		{"with TLS", settings(obj{"tls": ca}), transport.Done, transport.Delivered, ""},
		{"an unknown authority", settings(obj{"tls": obj{}}), transport.None, transport.TLSError, "tls.ca_file"},
		{"a wrong authority", settings(obj{"tls": other}), transport.None, transport.TLSError, "authority"},
		{"a wrong name", settings(obj{"tls": obj{"ca_file": p.ca, "server_name": "db.example.org"}}), transport.None, transport.TLSError, "db.example.org"},
		{"a wrong password", settings(obj{"password": "wrong-secret"}), transport.None, transport.UnauthorizedByTarget, ""},
		{"a wrong password with TLS", settings(obj{"password": "wrong-secret", "tls": ca}), transport.None, transport.UnauthorizedByTarget, ""},
		{"no password", settings(obj{"password": ""}), transport.None, transport.UnauthorizedByTarget, ""},
	} {
		tr := configured(t, c.settings)
		m := message(c.name)
		want(t, deliver(t, tr, m, ample), c.effect, c.code, c.words)
		r := tr.Check(t.Context())
		want(t, r, c.effect, c.code, c.words)
		if secure := c.name == "with TLS"; secure != strings.Contains(r.Detail, "certificate expires on 2100-01-02") {
			t.Errorf("%s: %q", c.name, r.Detail)
		}
		if strings.Contains(r.Detail, administrator) {
			t.Error("the password was told")
		}
		_ = tr.Close()
	}
	// The other's protocol, behind the right port.
	wrong := settings(obj{"dialect": map[string]string{"postgres": "mariadb", "mariadb": "postgres"}[p.dialect], "dial_timeout": "1s"})
	if r := deliver(t, configured(t, wrong), message("m"), ample); r.Effect != transport.None || !slices.Contains([]transport.Code{transport.BadResponse, transport.Timeout, transport.ConnectionReset}, r.Code) {
		t.Errorf("another protocol: %+v", r)
	}
}

func (p *private) testLimits(t *testing.T) {
	db := p.open(t)
	table := p.table(t, db, "id TEXT primary key, n int, body BYTES")
	do(t, db, "insert into "+table+" values ('435', 0, null)")
	tr := configured(t, p.settings(obj{"statement": "update " + table + " set n = n + 1 where id = :/trans_id"}))
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("update " + table + " set n = 1"); err != nil {
		t.Fatal(err)
	}
	want(t, deliver(t, tr, message("m1"), ample), transport.None, transport.TargetError, "lock")
	_ = tx.Rollback()
	want(t, deliver(t, tr, message("m1"), ample), transport.Done, transport.Delivered)

	if p.dialect == "mariadb" {
		big := configured(t, p.settings(obj{"statement": "update " + table + " set body = :payload"}))
		m := message("m2")
		for _, size := range []int{2 << 20, 600 << 10} {
			m.Payload = bytes.Repeat([]byte("x"), size)
			r := deliver(t, big, m, ample)
			if size > 1<<20 {
				want(t, r, transport.None, transport.RejectedByTarget, "max_allowed_packet")
			} else {
				want(t, r, transport.Done, transport.Delivered)
			}
		}
	}

	// A replica says that it only reads; it is not for good.
	reader := configured(t, p.settings(obj{"username": "writer", "password": administrator, "statement": "update " + table + " set n = n + 1"}))
	if p.dialect == "postgres" {
		do(t, db, "create role writer login password '"+administrator+"'; grant select, update on "+table+" to writer; alter role writer set default_transaction_read_only = on")
		t.Cleanup(func() { do(t, db, "drop owned by writer; drop role writer") })
	} else {
		do(t, db, "create user writer@'127.0.0.1' identified by '"+administrator+"'; grant select, update on "+table+" to writer@'127.0.0.1'; set global read_only = 1")
		t.Cleanup(func() { do(t, db, "set global read_only = 0; drop user writer@'127.0.0.1'") })
	}
	want(t, deliver(t, reader, message("m3"), ample), transport.None, transport.TargetError, "read-only")
	want(t, reader.Check(t.Context()), transport.None, transport.TargetError, "read-only")
}

// A server that stands still holds nobody beyond the deadline, and goes on.
func (p *private) testStopped(t *testing.T) {
	db := p.open(t)
	table := p.table(t, db, "id TEXT primary key")
	tr := configured(t, p.settings(obj{"statement": "insert into " + table + " values (:id)"}))
	want(t, deliver(t, tr, message("m0"), ample), transport.Done, transport.Delivered)
	p.signal(syscall.SIGSTOP)
	var mu sync.Mutex
	none := map[string]bool{}
	var calls sync.WaitGroup
	started := time.Now()
	for n := range 20 {
		calls.Go(func() {
			id := fmt.Sprint("stopped-", n)
			r := deliver(t, tr, message(id), 300*time.Millisecond)
			if r.Code != transport.Timeout || r.Effect == transport.Done {
				t.Errorf("%+v", r)
			}
			mu.Lock()
			defer mu.Unlock()
			none[id] = r.Effect == transport.None
		})
	}
	calls.Wait()
	if took := time.Since(started); took > 5*time.Second {
		t.Error("it took", took)
	}
	p.signal(syscall.SIGCONT)
	eventually(t, "it goes on", func() bool {
		return deliver(t, tr, message("m1"), ample).Code == transport.Delivered || len(ask(t, db, "select id from "+table+" where id = 'm1'")) == 1
	})
	for _, id := range ask(t, db, "select id from "+table) {
		if none[id] {
			t.Error("effect none, and it is there:", id)
		}
	}
}

// Killed in the middle of load: what was confirmed is there, once, and what was not is
// known to be unknown.
func (p *private) testKilled(t *testing.T) {
	for _, form := range []string{"table", "statement"} {
		db := p.open(t)
		table := p.table(t, db, "id TEXT "+map[string]string{"table": "primary key", "statement": ""}[form])
		settings := p.settings(obj{"statement": "insert into " + table + " values (:id)", "tls": obj{"ca_file": p.ca}})
		if form == "table" {
			settings = p.settings(obj{"table": table, "columns": obj{"id": ":id"}})
		}
		tr := configured(t, settings)
		const callers, after = 8, 10 // messages of each caller once the server is back
		type sent struct{ unknown, none int }
		all := make([]map[string]*sent, callers)
		var delivered, failed atomic.Int64
		var back atomic.Bool
		var calls sync.WaitGroup
		end := time.Now().Add(90 * time.Second)
		for c := range callers {
			all[c] = map[string]*sent{}
			calls.Go(func() {
				for n, left := 0, after; left > 0; n++ {
					if back.Load() {
						left--
					}
					m := message(fmt.Sprintf("%d-%d", c, n))
					s := &sent{}
					all[c][m.ID] = s
					for ; ; m.Attempt++ {
						r := deliver(t, tr, m, 2*time.Second)
						if r.Effect == transport.Done {
							delivered.Add(1)
							break
						}
						failed.Add(1)
						if r.Effect == transport.None {
							s.none++
						} else {
							s.unknown++
						}
						if !slices.Contains([]transport.Code{transport.ConnectionRefused, transport.ConnectionReset, transport.TargetError, transport.Timeout}, r.Code) {
							t.Errorf("killed: %+v", r)
						}
						if time.Now().After(end) {
							t.Errorf("not delivered, though the server is back: %+v", r)
							return
						}
						time.Sleep(10 * time.Millisecond) // as much a pause as a retry has, and no more
					}
				}
			})
		}
		eventually(t, "some load", func() bool { return delivered.Load() > 10*callers })
		p.kill()
		eventually(t, "failures", func() bool { return failed.Load() >= callers })
		p.start()
		back.Store(true)
		calls.Wait()
		count := map[string]int{}
		for _, id := range ask(t, db, "select id from "+table) {
			count[id]++
		}
		unknown := 0
		for c := range all {
			for id, s := range all[c] {
				unknown += s.unknown
				most := 1 + s.unknown
				if form == "table" {
					most = 1
				}
				if n := count[id]; n < 1 || n > most {
					t.Errorf("%s: %s is there %d times, after %d unknown and %d failed attempts", form, id, n, s.unknown, s.none)
				}
			}
		}
		t.Logf("%s: %d messages, %d failed attempts, %d of them unknown", form, delivered.Load(), failed.Load(), unknown)
	}
}
