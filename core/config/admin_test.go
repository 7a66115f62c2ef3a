package config

import (
	"slices"
	"strings"
	"testing"
)

func TestAdmin(t *testing.T) {
	const hash = "$2a$10$7EqJtq98hPqEX7fNZaFWoOhi5Q1gYb5DJi9cAF9nV9vJ0n5bqk2dK"
	c, err := Parse("c.toml", []byte(minimal+`
[admin]
listen = ["tcp://127.0.0.1:0", "unix:///run/a.sock", "tcp://127.0.0.1:0"]
hosts = ["Hookline.Example.org", "10.0.0.1", "2001:DB8::1"]
[admin.users.zoe]
password = "env:ZOE"
role = "auditor"
[admin.users.al]
password = "`+hash+`"
role = "viewer"
`), t.TempDir(), nil, []string{"ZOE=" + hash, "HOOKLINE__ADMIN__USERS__BOB_B__PASSWORD=" + hash, "HOOKLINE__ADMIN__USERS__BOB_B__ROLE=operator"})
	if err != nil {
		t.Fatal(err)
	}
	a := c.Admin
	if a.Socket() != "/run/a.sock" || len(a.TCP()) != 2 || len(c.Warnings) != 0 {
		t.Errorf("%+v %q", a, c.Warnings)
	}
	if want := []string{"hookline.example.org", "10.0.0.1", "2001:db8::1"}; !slices.Equal(a.Hosts, want) {
		t.Errorf("hosts %q, want %q", a.Hosts, want)
	}
	if want := []User{{"zoe", "env:ZOE", "auditor"}, {"al", hash, "viewer"}, {"bob-b", hash, "operator"}}; !slices.Equal(a.Users, want) {
		t.Errorf("users %+v, want %+v", a.Users, want)
	}
	if got, err := c.ResolveHash("env:ZOE"); err != nil || got != hash {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"env:NONE", "hunter2", hash[:59], strings.Replace(hash, "$10$", "$16$", 1), "file:nowhere"} {
		if got, err := c.ResolveHash(bad); err == nil || got != "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v", bad, got, err)
		}
	}
}
