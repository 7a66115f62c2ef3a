package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// The commands over TCP: who calls comes from the address or the environment.
func TestCommandsOverTCP(t *testing.T) {
	const password = "correct horse battery"
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, `
admin.listen = "tcp://127.0.0.1:0"
admin.users.vera = { role = "viewer", password = "`+string(hash)+`" }
`)
	s.daemon = launch(t, hookline(t, nil, "serve", "--config", s.file), false)
	addr := s.daemon.await(`"msg":"listening for the admin API","on":"tcp://([^"]+)"`)
	at := "http://vera@" + addr

	fails := func(want int, says string, args ...string) {
		t.Helper()
		code, out, errs := s.run(args...)
		if code != want || !strings.Contains(errs, says) || out != "" || strings.Contains(errs, password) {
			t.Errorf("%q: exit %d, want %d\n%s%s", args, code, want, out, errs)
		}
	}
	list := []string{"events", "list", "--admin"}
	fails(2, "HOOKLINE_ADMIN_PASSWORD", append(list, at)...)
	fails(2, "HOOKLINE_ADMIN_USER", append(list, "http://"+addr)...)
	fails(2, "must not hold a password", append(list, "http://vera:hunter2@"+addr)...)
	fails(2, "is no address of a daemon", append(list, "tcp://"+addr)...)

	t.Setenv(passwordVariable, password)
	if out := s.good("deliveries", "list", "--admin", at, "--json"); !strings.Contains(out, `"deliveries": []`) {
		t.Error(out)
	}
	t.Setenv(userVariable, "vera")
	s.good("deliveries", "list", "--admin", "http://"+addr, "--json")
	fails(1, "needs the role operator", "reload", "--admin", at)
	fails(1, "is wrong", append(list, "http://mallory@"+addr)...)

	file := filepath.Join(t.TempDir(), "password")
	t.Setenv(passwordFileVariable, file)
	fails(2, "both set", append(list, at)...)
	t.Setenv(passwordVariable, "")
	fails(2, passwordFileVariable, append(list, at)...)
	for text, want := range map[string]int{password + "\n": 0, password + "\r\n": 0, password: 0, "": 2, "\n": 2, password + "\n\n": 1} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out, errs := s.run("deliveries", "list", "--json", "--admin", at); code != want {
			t.Errorf("%q: exit %d\n%s%s", text, code, out, errs)
		}
	}
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody is there, and the way there is in the open.
	if code, _, errs := s.run("deliveries", "list", "--admin", "http://vera@hookline.invalid:1"); code != exitEnvironment || !strings.Contains(errs, "warning: the password crosses") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func hashPassword(in string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run([]string{"hash-password"}, strings.NewReader(in), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestHashPassword(t *testing.T) {
	// Few that are good: each takes its time.
	code, out, errs := hashPassword(" späce \r\nonly the first line\n")
	if code != 0 || !strings.Contains(errs, "warning: a password of fewer than 12") || bcrypt.CompareHashAndPassword([]byte(strings.TrimSuffix(out, "\n")), []byte(" späce ")) != nil {
		t.Errorf("exit %d, %q %q", code, out, errs)
	}
	long := strings.Repeat("x", maxPassword)
	code, out, errs = hashPassword(long)
	if cost, err := bcrypt.Cost([]byte(strings.TrimSpace(out))); code != 0 || errs != "" || err != nil || cost != hashCost {
		t.Errorf("exit %d, %q, cost %d, %v", code, errs, cost, err)
	}
	for in, says := range map[string]string{
		"": "no password", "\n": "no password", long + "x\n": "longer than 72", long + "xxxxxxxxx": "longer than 72", "a\x00bcdefghijkl\n": "control", "\xff\xfe\n": "UTF-8",
	} {
		if code, out, errs := hashPassword(in); code != exitConfig || out != "" || !strings.Contains(errs, says) {
			t.Errorf("%q: exit %d, %q %q", in, code, out, errs)
		}
	}
}
