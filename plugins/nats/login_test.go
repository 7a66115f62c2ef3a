//go:build unix

package nats_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/hookline/hookline/plugins/target/targettest"
	"github.com/hookline/hookline/plugins/transport"
)

// special starts a server with a configuration of its own.
func special(t *testing.T, conf string) string {
	t.Helper()
	n, err := targettest.StartNATS(targettest.FindNATS(t), t.TempDir(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	return n.Addr
}

func TestToken(t *testing.T) {
	addr := special(t, `authorization { token: "correct-horse" }`)
	_, subject := stream(t, client(t, addr, natsgo.Token("correct-horse")), "token.", nil)
	none := obj{"username": nil, "password": nil}
	none["token"] = "correct-horse"
	want(t, deliver(t, configured(t, settings(addr, subject, none)), message()), transport.Done, transport.Delivered, 0)
	none["token"] = "hunter2"
	want(t, deliver(t, configured(t, settings(addr, subject, none)), message()), transport.None, transport.UnauthorizedByTarget, 0)
}

func TestNKey(t *testing.T) {
	n := running(t)
	_, subject := stream(t, client(t, n.Addr), "nkey.", nil)
	other, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.Seed()
	if err != nil {
		t.Fatal(err)
	}
	with := func(seed string) obj {
		return settings(n.Addr, subject, obj{"username": nil, "password": nil, "nkey_seed": seed})
	}
	want(t, deliver(t, configured(t, with(n.seed)), message()), transport.Done, transport.Delivered, 0)
	want(t, deliver(t, configured(t, with(string(stranger))), message()), transport.None, transport.UnauthorizedByTarget, 0)
}

func TestTLS(t *testing.T) {
	ca, err := targettest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := targettest.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Leaf("server")
	if err != nil {
		t.Fatal(err)
	}
	ours, oursKey, err := ca.Leaf("client")
	if err != nil {
		t.Fatal(err)
	}
	theirs, theirsKey, err := other.Leaf("client")
	if err != nil {
		t.Fatal(err)
	}
	addr := special(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", cert, key, ca.CAFile))
	_, subject := stream(t, client(t, addr, natsgo.RootCAs(ca.CAFile), natsgo.ClientCert(ours, oursKey)), "tls.", nil)
	for name, tc := range map[string]struct {
		tls   any
		codes []transport.Code
	}{
		"right":                    {obj{"ca_file": ca.CAFile, "cert_file": ours, "key_file": oursKey}, []transport.Code{transport.Delivered}},
		"no settings":              {nil, []transport.Code{transport.TLSError}},
		"the system's authorities": {obj{"cert_file": ours, "key_file": oursKey}, []transport.Code{transport.TLSError}},
		"another authority":        {obj{"ca_file": other.CAFile, "cert_file": ours, "key_file": oursKey}, []transport.Code{transport.TLSError}},
		"another name":             {obj{"ca_file": ca.CAFile, "cert_file": ours, "key_file": oursKey, "server_name": "other.example"}, []transport.Code{transport.TLSError}},
		// The server may end the connection before we have read why.
		"no client certificate":      {obj{"ca_file": ca.CAFile}, []transport.Code{transport.TLSError, transport.ConnectionReset}},
		"another client certificate": {obj{"ca_file": ca.CAFile, "cert_file": theirs, "key_file": theirsKey}, []transport.Code{transport.TLSError, transport.ConnectionReset}},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(addr, subject, obj{"username": nil, "password": nil, "tls": tc.tls})
			r := deliver(t, configured(t, s), message())
			if len(tc.codes) == 2 && r.Code == tc.codes[1] {
				tc.codes = tc.codes[1:]
			}
			effect := transport.None
			if tc.codes[0] == transport.Delivered {
				effect = transport.Done
			}
			want(t, r, effect, tc.codes[0], 0)
		})
	}
	good := configured(t, settings(addr, subject, obj{"username": nil, "password": nil, "tls": obj{"ca_file": ca.CAFile, "cert_file": ours, "key_file": oursKey}}))
	want(t, good.Check(t.Context()), transport.Done, transport.Delivered, 0)
}

// A server in operator mode knows users by their JWT, which a credentials file holds.
func TestCredentials(t *testing.T) {
	operator := identity(t, nkeys.CreateOperator)
	system, account := identity(t, nkeys.CreateAccount), identity(t, nkeys.CreateAccount)
	person, stranger := identity(t, nkeys.CreateUser), identity(t, nkeys.CreateUser)
	limits := obj{
		"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
		"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
	}
	none := obj{"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1}
	addr := special(t, fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n%s: %s\n%s: %s\n}",
		claims(t, operator, operator, obj{"type": "operator", "version": 2, "system_account": system.public}),
		system.public,
		system.public, claims(t, operator, system, obj{"type": "account", "version": 2, "limits": none}),
		account.public, claims(t, operator, account, obj{"type": "account", "version": 2, "limits": limits})))
	file := func(name string, who, signer key) string {
		jwt := claims(t, signer, who, obj{"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1})
		path := filepath.Join(t.TempDir(), name)
		text := fmt.Sprintf("-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n", jwt, who.seed)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("user.creds", person, account)
	_, subject := stream(t, client(t, addr, natsgo.UserCredentials(good)), "creds.", nil)
	with := func(creds string) obj {
		return settings(addr, subject, obj{"username": nil, "password": nil, "creds_file": creds})
	}
	want(t, deliver(t, configured(t, with(good)), message()), transport.Done, transport.Delivered, 0)
	forged := file("stranger.creds", stranger, identity(t, nkeys.CreateAccount))
	want(t, deliver(t, configured(t, with(forged)), message()), transport.None, transport.UnauthorizedByTarget, 0)
}

// key is an identity of NATS.
type key struct {
	nkeys.KeyPair
	public, seed string
}

func identity(t *testing.T, create func() (nkeys.KeyPair, error)) key {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return key{pair, public, string(seed)}
}

// claims makes a JWT as nsc does.
func claims(t *testing.T, issuer, subject key, what obj) string {
	t.Helper()
	body, err := json.Marshal(obj{
		"jti": subject.public, "iat": time.Now().Add(-time.Minute).Unix(), "iss": issuer.public, "sub": subject.public, "name": "test", "nats": what,
	})
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"typ":"JWT","alg":"ed25519-nkey"}`)) + "." + encode(body)
	signature, err := issuer.Sign([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}
