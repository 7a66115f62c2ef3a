package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Admin says where the admin API is, and who may call it over TCP.
type Admin struct {
	Listen []Address // at most one Unix socket; none switches it off
	Hosts  []string  // names by which a browser may call it over TCP, beside addresses; lower case
	TLS    TLS       // of the TCP addresses
	Users  []User    // of the TCP addresses, in the order of the file
}

// User may call the admin API over TCP.
type User struct {
	Name     string
	Password string // a bcrypt hash, or a reference to one: [Config.ResolveHash]
	Role     string // "viewer", "auditor" or "operator"
}

// Roles are those of the users of the admin API.
var roles = []string{"viewer", "auditor", "operator"}

// Socket is the path of the Unix socket, "" for none.
func (a Admin) Socket() string {
	for _, address := range a.Listen {
		if address.Network == "unix" {
			return address.Address
		}
	}
	return ""
}

// TCP are the TCP addresses.
func (a Admin) TCP() (out []Address) {
	for _, address := range a.Listen {
		if address.Network == "tcp" {
			out = append(out, address)
		}
	}
	return out
}

// Costs of a bcrypt hash, each twice the one before: 10 takes some 50 ms, and with
// 15 nobody could log in while two others do.
const (
	minCost = 10
	maxCost = 15
)

// ResolveHash is what a user's password stands for: a bcrypt hash. The error never
// holds it.
func (c *Config) ResolveHash(ref string) (string, error) {
	hash, err := c.Resolve(ref)
	if err != nil {
		return "", err
	}
	stands := ""
	if isReference(ref) {
		stands = quote(ref) + " stands for what "
	}
	if !looksHashed(hash) {
		return "", errors.New(stands + "must be a bcrypt hash, or env:NAME or file:PATH of one: `hookline hash-password` makes it of a password")
	}
	if fault := faultOf(hash); fault != "" {
		return "", errors.New(stands + "is a bcrypt hash that " + fault)
	}
	return hash, nil
}

// faultOf says why a bcrypt hash cannot be used, "" if it can.
func faultOf(hash string) string {
	switch cost, err := bcrypt.Cost([]byte(hash)); {
	case err != nil || len(hash) != 60:
		return "is damaged or cut: a whole one has 60 characters"
	case cost > maxCost:
		return fmt.Sprintf("takes too long to check: its cost must be at most %d", maxCost)
	}
	return ""
}

func (c *Config) adminFields() fields {
	a := &c.Admin
	return fields{
		"listen": adminAddresses(&a.Listen),
		"hosts":  hostNames(&a.Hosts),
		"tls":    section(a.TLS.fields()),
		"users":  names(c.addUser),
	}
}

func (t *TLS) fields() fields {
	return fields{
		"cert_file": file(&t.CertFile, "a PEM certificate"),
		"key_file":  file(&t.KeyFile, "its PEM key"),
	}
}

func (c *Config) addUser(name string) fields {
	c.Admin.Users = append(c.Admin.Users, User{Name: name})
	u := &c.Admin.Users[len(c.Admin.Users)-1]
	return fields{
		"password": str(&u.Password),
		"role":     choice(func(s string) { u.Role = s }, roles...),
	}
}

// adminAddresses is one address, a list of them, or nowhere.
func adminAddresses(out *[]Address) field {
	return func(d *decoder, p path, value any) {
		items := []string{}
		switch v := value.(type) {
		case string:
			items = append(items, v)
		case text, []any:
			var ok bool
			if items, ok = d.list(p, value); !ok {
				return
			}
		default:
			d.mismatch(p, "a string or a list of strings", value)
			return
		}
		list := make([]Address, 0, len(items))
		sockets := 0
		for _, item := range items {
			if item == "" || item == "off" {
				if len(items) > 1 {
					d.fail(p, "has %s beside others: write it alone to do without the admin API", quote(item))
				}
				continue
			}
			a, err := parseAddress(item, d.dir)
			switch {
			case err != nil:
				d.fail(p, "%s", strings.Replace(err.Error(), "write tcp://127.0.0.1:8787, unix:///path or unix:path", `write unix:hookline-admin.sock, tcp://127.0.0.1:8788, or "off" to do without`, 1))
				continue
			case slices.Contains(list, a) && !strings.HasSuffix(a.Address, ":0"):
				d.fail(p, "names %s twice", a)
			case a.Network == "unix":
				if sockets++; sockets == 2 {
					d.fail(p, "names more than one Unix socket: the commands would not know which to call. Keep one")
				}
			}
			list = append(list, a)
		}
		*out = list
	}
}

// hostNames are names, or addresses, without a port.
func hostNames(out *[]string) field {
	return func(d *decoder, p path, value any) {
		items, ok := d.list(p, value)
		if !ok {
			return
		}
		var list []string
		for _, item := range items {
			if ip, err := netip.ParseAddr(item); err == nil {
				list = append(list, ip.String())
				continue
			}
			if !hostPattern.MatchString(item) {
				d.fail(p, "%s is not the name of a host: write it as it stands in the browser, without https:// and without a port, such as hookline.example.org", quote(item))
				continue
			}
			list = append(list, strings.ToLower(item))
		}
		*out = list
	}
}

func (d *decoder) checkAdmin(c *Config) {
	admin := path{"admin"}
	listen := admin.at("listen")
	if !d.from.written(listen) {
		a, err := parseAddress(defaultAdmin, d.dir)
		if err != nil {
			d.fail(listen, "%s", err)
		}
		c.Admin.Listen = []Address{a}
	}
	for _, a := range c.Admin.Listen {
		if slices.Contains(c.Server.Listen, a) && !strings.HasSuffix(a.Address, ":0") {
			d.fail(listen, "is an address of server.listen too; give it its own socket")
		}
	}
	tcp := c.Admin.TCP()
	hasTLS := d.checkTLS(admin.at("tls"), "admin.listen", c.Admin.Listen)
	for _, a := range tcp {
		if !a.loopback() && !hasTLS {
			d.warn(listen, "%s is reachable from other machines without TLS, so passwords and what the API shows cross the network in the open: set admin.tls, or listen on 127.0.0.1 behind a proxy that has TLS", a)
		}
	}
	users := admin.at("users")
	switch {
	case len(tcp) > 0 && len(c.Admin.Users) == 0:
		d.fail(listen, "%s needs users: add a table [admin.users.NAME] with a password (`hookline hash-password` makes its hash) and a role, %s, or leave the address out", tcp[0], or(roles))
	case len(tcp) == 0 && len(c.Admin.Users) > 0:
		d.warn(users, "has no effect: admin.listen has no tcp:// address, and the user of the Unix socket is the one who connects")
	case len(tcp) == 0 && len(c.Admin.Hosts) > 0:
		d.warn(admin.at("hosts"), "has no effect: admin.listen has no tcp:// address")
	}
	for _, u := range c.Admin.Users {
		d.checkUser(c, u, users.at(u.Name))
	}
}

func (d *decoder) checkUser(c *Config, u User, at path) {
	if !d.from.written(at.at("role")) {
		d.fail(at.at("role"), "is missing: write %s", or(roles))
	}
	password := at.at("password")
	if !d.from.written(password) {
		d.fail(password, "is missing: write a bcrypt hash (`hookline hash-password` makes one), or env:NAME or file:PATH of one")
		return
	}
	hash, err := c.ResolveHash(u.Password)
	if err != nil {
		d.fail(password, "%s", err)
		return
	}
	if cost, _ := bcrypt.Cost([]byte(hash)); cost < minCost {
		d.warn(password, "is a bcrypt hash of cost %d, which is quick to guess from whoever gets hold of it: make one of cost %d or more, as `hookline hash-password` does", cost, minCost)
	}
}

// checkTLS looks at a listener's TLS and tells whether it has any.
func (d *decoder) checkTLS(at path, key string, listen []Address) bool {
	hasCert, hasKey := d.from.written(at.at("cert_file")), d.from.written(at.at("key_file"))
	tcp := slices.ContainsFunc(listen, func(a Address) bool { return a.Network == "tcp" })
	switch {
	case hasCert != hasKey:
		d.fail(at, "needs both cert_file and key_file, or neither")
	case hasCert && !tcp && len(listen) > 0:
		d.fail(at, "is for TCP, but %s has Unix sockets only: remove it or add a tcp:// address", key)
	}
	return hasCert
}
