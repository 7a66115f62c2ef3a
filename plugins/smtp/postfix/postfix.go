// Package postfix runs a private instance of the installed Postfix: its own
// configuration, queue, ports, users and mailboxes, in a directory that goes with it.
// Tests and the benchmark of the smtp transport use it.
package postfix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/hookline/hookline/plugins/target/targettest"
)

// Install says how to get what [Start] needs.
const Install = "Postfix and its SASL are missing: apt-get install -y --no-install-recommends postfix sasl2-bin libsasl2-modules libsasl2-modules-db"

// What the server knows.
const (
	Domain    = "hookline.test" // its mailboxes, for any name that begins with "in-"
	User      = "hookline"
	SizeLimit = 3 << 20 // bytes of a mail
	nobody    = 65534
)

const (
	daemons = "/usr/lib/postfix/sbin"
	patient = 30 * time.Second
)

// Options change what [Start] makes.
type Options struct {
	Password string            // of User; "": who connects from this machine may send
	CertFile string            // PEM of certificate and key; "": no TLS
	KeyFile  string            //
	Mains    map[string]string // further lines of main.cf
	// Policy is asked, with the attributes of Postfix's policy delegation, before a
	// mail is taken; its answer is an action such as "dunno" or "550 5.7.1 no".
	// It may be called many times at once. nil: all are taken.
	Policy func(attributes map[string]string) string
}

// Server is a running Postfix.
type Server struct {
	Addr    string // SMTP, with STARTTLS if there is a certificate
	TLSAddr string // TLS from the first byte; "" without a certificate

	dir    string
	policy *policy
	master *exec.Cmd // nil while it is down
	alive  io.Closer // once it is closed, all of it is killed
}

// Start needs root, as Postfix does. An error that wraps [ErrMissing] says what to
// install.
func Start(o Options) (s *Server, err error) {
	if _, err := os.Stat(daemons + "/master"); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrMissing, Install)
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: a Postfix can only be started by root", ErrMissing)
	}
	dir, err := os.MkdirTemp("", "postfix-")
	if err != nil {
		return nil, err
	}
	s = &Server{dir: dir}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if o.Policy != nil {
		if s.policy, err = newPolicy(o.Policy); err != nil {
			return nil, err
		}
	}
	if s.Addr, err = freeAddr(); err != nil {
		return nil, err
	}
	if o.CertFile != "" {
		if s.TLSAddr, err = freeAddr(); err != nil {
			return nil, err
		}
	}
	if err := s.layOut(o); err != nil {
		return nil, err
	}
	return s, s.Up()
}

// ErrMissing is that the machine has no Postfix that could be started.
var ErrMissing = errors.New("no Postfix")

func freeAddr() (string, error) {
	port, err := targettest.FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// layOut makes the files as `postfix set-permissions` would.
func (s *Server) layOut(o Options) error {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return fmt.Errorf("%w: %s", ErrMissing, Install)
	}
	group, err := user.LookupGroup("postdrop")
	if err != nil {
		return fmt.Errorf("%w: %s", ErrMissing, Install)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	drop, _ := strconv.Atoi(group.Gid)
	if err := os.Chmod(s.dir, 0o755); err != nil { // its daemons run as others
		return err
	}
	type folder struct {
		name     string
		mode     os.FileMode
		uid, gid int
	}
	folders := []folder{
		{"conf", 0o755, 0, 0}, {"conf/sasl", 0o755, 0, 0}, {"queue", 0o755, 0, 0}, {"queue/pid", 0o755, 0, 0}, {"data", 0o700, uid, gid},
		{"mail", 0o700, nobody, nobody}, {"queue/maildrop", 0o730, uid, drop}, {"queue/public", 0o710, uid, drop},
	}
	for _, name := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"} {
		folders = append(folders, folder{"queue/" + name, 0o700, uid, gid})
	}
	for _, f := range folders {
		path := filepath.Join(s.dir, f.name)
		if err := errors.Join(os.Mkdir(path, f.mode), os.Chmod(path, f.mode), os.Chown(path, f.uid, f.gid)); err != nil {
			return err
		}
	}
	values := map[string]any{
		"Dir": s.dir, "Daemons": daemons, "Domain": Domain, "Size": SizeLimit, "Nobody": nobody, "Options": o,
		"Addr": s.Addr, "TLSAddr": s.TLSAddr, "Policy": s.policy.address(),
	}
	for name, text := range map[string]*template.Template{"conf/main.cf": mainCf, "conf/master.cf": masterCf, "conf/mailboxes": mailboxes, "conf/sasl/smtpd.conf": saslConf} {
		var b bytes.Buffer
		if err := text.Execute(&b, values); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if o.Password == "" {
		return nil
	}
	db := filepath.Join(s.dir, "conf", "sasl", "sasldb2")
	set := exec.Command("saslpasswd2", "-c", "-p", "-f", db, "-u", Domain, User)
	set.Stdin = strings.NewReader(o.Password)
	if out, err := set.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s (saslpasswd2: %w %s)", ErrMissing, Install, err, out)
	}
	return os.Chown(db, uid, gid)
}

// Up starts it where it was, and waits until it greets.
func (s *Server) Up() error {
	if s.master != nil {
		return nil
	}
	// -d keeps it in the group that Kill ends. The shell ends that too, once nobody
	// holds its standard input any more: no Postfix outlives its test.
	master := exec.Command("/bin/sh", "-c", `"$0" "$@" </dev/null & read gone; kill -9 0`,
		daemons+"/master", "-c", filepath.Join(s.dir, "conf"), "-d")
	ownGroup(master)
	alive, err := master.StdinPipe()
	if err != nil {
		return err
	}
	if err := master.Start(); err != nil {
		return err
	}
	s.master, s.alive = master, alive
	for end := time.Now().Add(patient); !greets(s.Addr); time.Sleep(10 * time.Millisecond) { // a pace for the loop
		if time.Now().After(end) {
			return fmt.Errorf("the Postfix in %s does not greet: %s", s.dir, s.Log())
		}
	}
	return nil
}

func greets(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 4)
	_, err = io.ReadFull(c, b)
	return err == nil && string(b) == "220 "
}

// Kill ends it at once, in the middle of whatever it does. What it has confirmed
// is in its queue.
func (s *Server) Kill() {
	if s.master == nil {
		return
	}
	killGroup(s.master)
	_ = s.alive.Close()
	_ = s.master.Wait()
	s.master = nil
	// Its daemons hold the ports too, and die a moment later.
	for _, addr := range []string{s.Addr, s.TLSAddr} {
		for end := time.Now().Add(patient); addr != "" && !refuses(addr) && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // a pace for the loop
		}
	}
}

func refuses(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// Stop ends it, and removes what it had.
func (s *Server) Stop() {
	s.policy.close()
	s.Kill()
	_ = os.RemoveAll(s.dir)
}

// Log is what it has logged last.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text[max(0, len(text)-4000):])
}
