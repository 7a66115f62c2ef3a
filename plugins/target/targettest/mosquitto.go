//go:build unix

package targettest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Mosquitto is an MQTT broker of a test's own. It keeps nothing when it is killed.
type Mosquitto struct {
	Server
	Addr, TLSAddr string // host:port
	CA            *Authority
}

// FindMosquitto is the program for [StartMosquitto]. Without it, or the one for its
// passwords, the test is left out.
func FindMosquitto(tb testing.TB) string {
	tb.Helper()
	program := Find("mosquitto", "/usr/sbin", "/usr/local/sbin")
	if program == "" || Find("mosquitto_passwd") == "" {
		Missing(tb, "Mosquitto", "apt-get install mosquitto")
	}
	return program
}

// StartMosquitto starts a broker whose files are in dir. Its users have the password
// and the rights that acl gives them, in the format of acl_file. conf is added to
// mosquitto.conf, below the listener for TLS.
func StartMosquitto(program, dir, password, acl, conf string, users ...string) (*Mosquitto, error) {
	m := &Mosquitto{}
	var err error
	if m.CA, err = NewAuthority(dir); err != nil {
		return nil, err
	}
	cert, key, err := m.CA.Leaf("server")
	if err != nil {
		return nil, err
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = FreePort(); err != nil {
			return nil, err
		}
	}
	m.Addr, m.TLSAddr = "127.0.0.1:"+strconv.Itoa(ports[0]), "127.0.0.1:"+strconv.Itoa(ports[1])
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{
		"passwords": "",
		"acl":       acl,
		// As root it would change to a user who may not read these files.
		"mosquitto.conf": fmt.Sprintf(`user root
allow_anonymous false
password_file %s
acl_file %s
persistence false
log_dest stderr
listener %d 127.0.0.1
listener %d 127.0.0.1
cafile %s
certfile %s
keyfile %s
%s`, in("passwords"), in("acl"), ports[0], ports[1], m.CA.CAFile, cert, key, conf),
	} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for _, user := range users {
		if out, err := exec.Command(Find("mosquitto_passwd"), "-b", in("passwords"), user, password).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mosquitto_passwd: %w: %s", err, out)
		}
	}
	m.Server = Server{Program: program, Args: []string{"-c", in("mosquitto.conf")}, Dir: dir, Within: time.Minute, Ready: m.ready}
	return m, m.Start()
}

// ready tells whether it listens on its last port.
func (m *Mosquitto) ready() error {
	c, err := net.DialTimeout("tcp", m.TLSAddr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}
