package sql_test

import (
	"bytes"
	"context"
	"fmt"
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

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// private is a server of the test's own, with passwords and TLS, that may be killed.
type private struct {
	server
	t         *testing.T
	dir       string // of the server's user
	uid, gid  int
	authority *targettest.Authority
	pidFile   string
	process   *targettest.Server
}

const administrator = "pa55word-secret"

// onPrivate runs the test on a new server of each kind.
func onPrivate(t *testing.T, f func(t *testing.T, p *private)) {
	for dialect, install := range map[string]func(*testing.T, *private, string){"postgres": installPostgres, "mariadb": installMaria} {
		t.Run(dialect, func(t *testing.T) {
			port, err := targettest.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			p := &private{t: t, uid: os.Getuid(), gid: os.Getgid()}
			p.server = server{dialect: dialect, address: fmt.Sprint("127.0.0.1:", port), password: administrator}
			p.makeDir()
			install(t, p, strconv.Itoa(port))
			t.Cleanup(p.kill)
			p.start()
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
	if p.uid == 0 {
		who, err := user.Lookup("nobody")
		if err != nil {
			p.t.Fatal(err)
		}
		p.uid, _ = strconv.Atoi(who.Uid)
		p.gid, _ = strconv.Atoi(who.Gid)
	}
	if p.authority, err = targettest.NewAuthority(dir); err != nil {
		p.t.Fatal(err)
	}
	if _, _, err := p.authority.Leaf("server"); err != nil {
		p.t.Fatal(err)
	}
	p.own()
}

// own gives the folder and what is in it to the server's user.
func (p *private) own() {
	p.t.Helper()
	files, _ := filepath.Glob(filepath.Join(p.dir, "*"))
	for _, name := range append(files, p.dir) {
		if err := os.Chown(name, p.uid, p.gid); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *private) write(name, content string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.own()
	return path
}

// command is a program as the server's user.
func (p *private) command(program string, args ...string) []string {
	if p.uid == os.Getuid() {
		return append([]string{program}, args...)
	}
	return append([]string{"/usr/bin/setpriv", "--reuid", strconv.Itoa(p.uid), "--regid", strconv.Itoa(p.gid), "--clear-groups", program}, args...)
}

func (p *private) run(program string, args ...string) {
	p.t.Helper()
	line := p.command(program, args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir = p.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (p *private) serve(program string, args ...string) {
	line := p.command(program, args...)
	p.process = &targettest.Server{Program: line[0], Args: line[1:], Dir: p.dir, Ready: p.ready, Within: 2 * time.Minute}
}

// find looks where distributions put servers.
func find(t *testing.T, name, install string, folders ...string) string {
	t.Helper()
	path := targettest.Find(name, append(folders, "/usr/sbin", "/usr/bin", "/usr/local/bin")...)
	if path == "" {
		targettest.Missing(t, name, install)
	}
	return path
}

func installPostgres(t *testing.T, p *private, port string) {
	folders, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(folders)
	initdb := find(t, "initdb", "Debian has it in postgresql", folders...)
	p.username, p.database, p.query = "postgres", "postgres", "?sslmode=require"
	data := filepath.Join(p.dir, "data")
	p.pidFile = filepath.Join(data, "postmaster.pid")
	p.run(initdb, "-D", data, "-U", p.username, "--auth=scram-sha-256", "--pwfile", p.write("password", administrator), "--no-sync", "-E", "UTF8", "--no-locale")
	p.serve(filepath.Join(filepath.Dir(initdb), "postgres"), "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port="+port,
		"-c", "unix_socket_directories=", "-c", "lock_timeout=300ms", "-c", "shared_buffers=16MB", "-c", "max_connections=30",
		"-c", "ssl=on", "-c", "ssl_cert_file="+p.dir+"/server.pem", "-c", "ssl_key_file="+p.dir+"/server-key.pem")
}

func installMaria(t *testing.T, p *private, port string) {
	const in = "Debian has it in mariadb-server"
	mariadbd, install := find(t, "mariadbd", in), find(t, "mariadb-install-db", in)
	p.username, p.database = "root", "mysql"
	data := filepath.Join(p.dir, "data")
	p.pidFile = filepath.Join(p.dir, "pid")
	p.run(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=8M")
	init := p.write("init.sql", "set password for root@localhost = password('"+administrator+"');\ncreate or replace user root@'127.0.0.1' identified by '"+administrator+"';\ngrant all on *.* to root@'127.0.0.1' with grant option;\n")
	p.serve(mariadbd, "--no-defaults", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+port, "--socket="+p.dir+"/sock",
		"--pid-file="+p.pidFile, "--skip-name-resolve", "--innodb-lock-wait-timeout=1", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M",
		"--init-file="+init, "--max-allowed-packet=1M",
		"--ssl-cert="+p.dir+"/server.pem", "--ssl-key="+p.dir+"/server-key.pem", "--ssl-ca="+p.authority.CAFile)
}

func (p *private) start() {
	p.t.Helper()
	if err := p.process.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// ready tells whether somebody can log in.
func (p *private) ready() error {
	db := p.open(p.t)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return db.PingContext(ctx)
}

// processes are the server's own and its children, which PostgreSQL's take out of its
// group.
func (p *private) processes() (pids []int) {
	text, err := os.ReadFile(p.pidFile)
	if err != nil {
		return nil // it does not run
	}
	first, _, _ := strings.Cut(string(text), "\n")
	main, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return nil
	}
	list, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range list {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if state, parent := look(pid); state != "" && state != "Z" && (pid == main || parent == main) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// look tells of a process its state and its parent; "" if it has gone.
func look(pid int) (state string, parent int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if err != nil || len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

func (p *private) signal(s syscall.Signal) {
	for _, pid := range p.processes() {
		_ = syscall.Kill(pid, s)
	}
}

// kill ends all of the server at once. PostgreSQL does not start again before the last
// of its processes has gone, also if nobody has asked yet how it ended.
func (p *private) kill() {
	all := p.processes()
	p.signal(syscall.SIGKILL)
	p.process.Kill()
	targettest.Eventually(p.t, "the end of its processes", func() bool {
		return !slices.ContainsFunc(all, func(pid int) bool { state, _ := look(pid); return state != "" && state != "Z" })
	})
	_ = os.Remove(p.pidFile)
}

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
	another, err := targettest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca, other := obj{"ca_file": p.authority.CAFile}, obj{"ca_file": another.CAFile}
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
		{"a wrong name", settings(obj{"tls": obj{"ca_file": p.authority.CAFile, "server_name": "db.example.org"}}), transport.None, transport.TLSError, "db.example.org"},
		{"a wrong password", settings(obj{"password": "wrong-secret"}), transport.None, transport.UnauthorizedByTarget, ""},
		{"a wrong password with TLS", settings(obj{"password": "wrong-secret", "tls": ca}), transport.None, transport.UnauthorizedByTarget, ""},
		{"no password", settings(obj{"password": ""}), transport.None, transport.UnauthorizedByTarget, ""},
	} {
		tr := configured(t, c.settings)
		m := message(c.name)
		want(t, deliver(t, tr, m, ample), c.effect, c.code, c.words)
		r := tr.Check(t.Context())
		want(t, r, c.effect, c.code, c.words)
		if secure := c.name == "with TLS"; secure != strings.Contains(r.Detail, "certificate expires on 20") {
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
	targettest.Eventually(t, "it goes on", func() bool {
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
		settings := p.settings(obj{"statement": "insert into " + table + " values (:id)", "tls": obj{"ca_file": p.authority.CAFile}})
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
		targettest.Eventually(t, "some load", func() bool { return delivered.Load() > 10*callers })
		p.kill()
		targettest.Eventually(t, "failures", func() bool { return failed.Load() >= callers })
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
