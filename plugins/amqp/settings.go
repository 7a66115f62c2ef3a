package amqp

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/hookline/hookline/plugins/target"
)

// maxShort is the longest short string of AMQP, in bytes.
const maxShort = 255

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	target.Network
	Address    string      `json:"address"`
	VHost      string      `json:"vhost"`
	Username   string      `json:"username"`
	Password   string      `json:"password"`
	TLS        *target.TLS `json:"tls"`
	Exchange   string      `json:"exchange"`
	RoutingKey string      `json:"routing_key"`
	Channels   int         `json:"channels"`
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{Network: target.DefaultNetwork(), VHost: "/", Channels: 256}
}

// broker is the settings as they are used. It does not change.
type broker struct {
	addr               string // host:port to dial
	vhost              string
	username, password string
	exchange, key      string // key: where the message has none
	channels           int
	version            string

	tls    *target.TLSSource // nil: no TLS
	dialer *target.Dialer
}

// parseSettings turns JSON into a broker, or reports everything that is wrong. No
// value appears in an error: it may be a secret, or hold one.
func parseSettings(raw json.RawMessage, version string) (*broker, error) {
	s := defaults()
	if err := target.Decode("amqp", raw, &s); err != nil {
		return nil, err
	}
	var bad target.Faults
	b := &broker{
		vhost: s.VHost, username: s.Username, password: s.Password,
		exchange: s.Exchange, key: s.RoutingKey, channels: s.Channels, version: version,
	}
	port := "5672"
	if s.TLS != nil {
		port = "5671"
	}
	host := ""
	if s.Address == "" {
		bad.Add("address", `is missing; it must be a host, or host:port, such as "mq.example.org:%s"`, port)
	} else {
		b.addr, host = bad.Address("address", s.Address, port)
	}
	for _, f := range []struct {
		field, value string
		needed       bool
	}{
		{"vhost", s.VHost, true}, {"username", s.Username, true},
		{"exchange", s.Exchange, false}, {"routing_key", s.RoutingKey, false},
	} {
		switch {
		case f.needed && f.value == "":
			bad.Add(f.field, "is missing or empty")
		case !short(f.value):
			bad.Add(f.field, "must be at most %d bytes of text without control characters", maxShort)
		}
	}
	if s.Password == "" || strings.ContainsAny(s.Password, "\x00\r\n") {
		bad.Add("password", "is missing or empty, or has a line break in it; a file must not hold a second line")
	}
	if s.Exchange == "" && s.RoutingKey == "" {
		bad.Add("routing_key", "is missing; the default exchange needs it, it is the queue's name")
	}
	if s.Channels < 1 || s.Channels > 2047 {
		bad.Add("channels", "must be from 1 to 2047")
	}
	s.TLS.Check(&bad)
	b.dialer = s.Dialer(&bad)
	err := bad.Err()
	if err != nil {
		return nil, err
	}
	if b.tls, err = s.TLS.Source(host, 0); err != nil {
		return nil, err
	}
	return b, nil
}

// short tells whether AMQP takes s as a short string.
func short(s string) bool {
	return len(s) <= maxShort && utf8.ValidString(s) && !target.HasControl(s)
}
