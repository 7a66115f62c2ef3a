package nats

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/hookline/hookline/plugins/target"
)

// maxSubject is the longest subject in bytes: a server's line has 4096 for it and all
// else.
const maxSubject = 1024

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	target.Network
	Servers     []string    `json:"servers"`
	Subject     string      `json:"subject"`
	Username    string      `json:"username"`
	Password    string      `json:"password"`
	Token       string      `json:"token"`
	NKeySeed    string      `json:"nkey_seed"`
	CredsFile   string      `json:"creds_file"`
	InboxPrefix string      `json:"inbox_prefix"`
	TLS         *target.TLS `json:"tls"`
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{Network: target.DefaultNetwork(), InboxPrefix: natsgo.InboxPrefix[:len(natsgo.InboxPrefix)-1]}
}

// cluster is the settings as they are used. It does not change.
type cluster struct {
	servers []string // host:port to dial, in this order
	subject string
	options []natsgo.Option // that say who we are

	tls    *target.TLSSource // nil: only if the server insists
	dialer *target.Dialer
}

// parseSettings turns JSON into a cluster, or reports everything that is wrong. No
// value appears in an error: it may be a secret, or hold one.
func parseSettings(raw json.RawMessage) (*cluster, error) {
	s := defaults()
	if err := target.Decode("nats", raw, &s); err != nil {
		return nil, err
	}
	var bad target.Faults
	c := &cluster{subject: s.Subject}
	if len(s.Servers) == 0 || len(s.Servers) > 16 {
		bad.Add("servers", `must name 1 to 16 servers, such as "nats.example.org"`)
	}
	for i, server := range s.Servers {
		addr, _ := bad.Address(fmt.Sprintf("servers[%d]", i), server, "4222")
		c.servers = append(c.servers, addr)
	}
	if err := checkSubject(s.Subject); err != nil || strings.HasPrefix(s.Subject, "$") {
		bad.Add("subject", "must be a subject without wildcards and spaces, such as trialkit.events, not one of the server's own")
	}
	if err := checkSubject(s.InboxPrefix); err != nil {
		bad.Add("inbox_prefix", "must be a subject without wildcards and spaces")
	} else {
		c.options = append(c.options, natsgo.CustomInboxPrefix(s.InboxPrefix))
	}
	s.login(c, &bad)
	s.TLS.Check(&bad)
	c.dialer = s.Dialer(&bad)
	err := bad.Err()
	if err != nil {
		return nil, err
	}
	// Without a name of its own: each server has one.
	if c.tls, err = s.TLS.Source("", 0); err != nil {
		return nil, err
	}
	return c, nil
}

// login adds who we are to c's options.
func (s *settings) login(c *cluster, bad *target.Faults) {
	ways := 0
	for field, value := range map[string]string{"username": s.Username, "token": s.Token, "nkey_seed": s.NKeySeed, "creds_file": s.CredsFile} {
		if value == "" {
			continue
		}
		ways++
		if target.HasControl(value) {
			bad.Add(field, "must not have control characters; a file must not hold a second line")
		}
	}
	if ways > 1 {
		bad.Add("", "of username, token, nkey_seed and creds_file only one may be set")
	}
	switch {
	case s.Username != "" && s.Password == "":
		bad.Add("password", "is missing; username needs it")
	case s.Username == "" && s.Password != "":
		bad.Add("username", "is missing; password needs it")
	case target.HasControl(s.Password):
		bad.Add("password", "must not have control characters; a file must not hold a second line")
	}
	switch {
	case s.Username != "":
		c.options = append(c.options, natsgo.UserInfo(s.Username, s.Password))
	case s.Token != "":
		c.options = append(c.options, natsgo.Token(s.Token))
	case s.NKeySeed != "":
		pair, err := nkeys.FromSeed([]byte(s.NKeySeed))
		public := ""
		if err == nil {
			public, err = pair.PublicKey()
		}
		if err != nil || !nkeys.IsValidPublicUserKey(public) {
			bad.Add("nkey_seed", "must be the seed of a user's NKey; it begins with SU")
			return
		}
		c.options = append(c.options, natsgo.Nkey(public, pair.Sign))
	case s.CredsFile != "":
		if !validCredentials(s.CredsFile) {
			bad.Add("creds_file", "must be a file that can be read, with a user's JWT and the seed of its NKey, as nsc makes it")
		}
		c.options = append(c.options, natsgo.UserCredentials(s.CredsFile)) // read for each connection
	}
}

func validCredentials(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	if jwt, err := nkeys.ParseDecoratedJWT(text); err != nil || strings.Count(jwt, ".") != 2 {
		return false
	}
	_, err = nkeys.ParseDecoratedUserNKey(text)
	return err == nil
}

// checkSubject tells why s is not a subject to publish to.
func checkSubject(s string) error {
	if s == "" || len(s) > maxSubject {
		return fmt.Errorf("is empty or longer than %d bytes", maxSubject)
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || token == "*" || token == ">" {
			return fmt.Errorf("has an empty part or a wildcard")
		}
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd }) {
		return fmt.Errorf("has a space, a control character or something that is not UTF-8")
	}
	return nil
}
