package mqtt

import (
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hookline/hookline/plugins/target"
)

const (
	maxText     = math.MaxUint16 // of a text or of binary data, in bytes
	maxInFlight = math.MaxUint16 // packet identifiers
	maxPacket   = 268435455      // remaining length: four bytes of seven bits
	keepaliveLo = time.Second    // its unit on the wire
	keepaliveHi = math.MaxUint16 * time.Second
)

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	target.Network
	Address           string      `json:"address"`
	Version           string      `json:"version"`
	ClientID          string      `json:"client_id"`
	Username          *string     `json:"username"`
	Password          *string     `json:"password"`
	TLS               *target.TLS `json:"tls"`
	Topic             string      `json:"topic"`
	QoS               int         `json:"qos"`
	Retain            bool        `json:"retain"`
	RequireSubscriber bool        `json:"require_subscriber"`
	MaxPayload        int         `json:"max_payload"`
	InFlight          int         `json:"in_flight"`
	Keepalive         string      `json:"keepalive"`
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{
		Network: target.DefaultNetwork(), Version: "5", QoS: 1,
		MaxPayload: maxPacket, InFlight: 20, Keepalive: "30s",
	}
}

// broker is the settings as they are used. It does not change.
type broker struct {
	addr     string // host:port to dial
	v5       bool   // or else 3.1.1
	clientID string // "": a new one for each connection
	username *string
	password *string

	topic             string
	qos               byte
	retain            bool
	requireSubscriber bool
	maxPayload        int
	inFlight          int
	keepalive         time.Duration

	tls    *target.TLSSource // nil: no TLS
	dialer *target.Dialer
}

// parseSettings turns JSON into a broker, or reports everything that is wrong. No
// value appears in an error: it may be a secret, or hold one.
func parseSettings(raw json.RawMessage) (*broker, error) {
	s := defaults()
	if err := target.Decode("mqtt", raw, &s); err != nil {
		return nil, err
	}
	var bad target.Faults
	b := &broker{
		v5: s.Version == "5", clientID: s.ClientID, username: s.Username, password: s.Password,
		topic: s.Topic, qos: byte(s.QoS), retain: s.Retain, requireSubscriber: s.RequireSubscriber,
		maxPayload: s.MaxPayload, inFlight: s.InFlight,
	}
	port := "1883"
	if s.TLS != nil {
		port = "8883"
	}
	host := ""
	if s.Address == "" {
		bad.Add("address", `is missing; it must be a host, or host:port, such as "mqtt.example.org:%s"`, port)
	} else {
		b.addr, host = bad.Address("address", s.Address, port)
	}
	if s.Version != "5" && s.Version != "3.1.1" {
		bad.Add("version", `must be "5" or "3.1.1"`)
	}
	if !text(s.ClientID) || len(s.ClientID) > maxText-len(checkSuffix) {
		bad.Add("client_id", "must be text without control characters")
	}
	s.checkLogin(&bad)
	switch {
	case s.Topic == "":
		bad.Add("topic", "is missing; it is what messages are published under")
	case checkTopic(s.Topic) != nil:
		bad.Add("topic", "%s", checkTopic(s.Topic).Error())
	}
	if s.QoS != 1 && s.QoS != 2 {
		bad.Add("qos", "must be 1 or 2; with 0 nobody would know whether a message arrived")
	}
	if s.RequireSubscriber {
		switch {
		case !b.v5:
			bad.Add("require_subscriber", `needs version "5"; MQTT 3.1.1 does not tell`)
		case s.QoS == 2:
			bad.Add("require_subscriber", "needs qos 1; with 2 a broker may not know yet when it answers")
		case s.Retain:
			bad.Add("require_subscriber", "excludes retain; a retained message is kept for those who subscribe later")
		}
	}
	if s.MaxPayload < 1 || s.MaxPayload > maxPacket {
		bad.Add("max_payload", "must be from 1 to %d bytes", maxPacket)
	}
	if s.InFlight < 1 || s.InFlight > maxInFlight {
		bad.Add("in_flight", "must be from 1 to %d", maxInFlight)
	}
	b.keepalive = bad.Duration("keepalive", s.Keepalive)
	if b.keepalive > 0 && (b.keepalive < keepaliveLo || b.keepalive > keepaliveHi || b.keepalive%time.Second != 0) {
		bad.Add("keepalive", "must be whole seconds, from 1s to 65535s")
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

func (s *settings) checkLogin(bad *target.Faults) {
	if s.Password != nil && s.Username == nil {
		bad.Add("username", "is missing; password needs it")
	}
	if u := s.Username; u != nil && (*u == "" || len(*u) > maxText || !text(*u)) {
		bad.Add("username", "must be text without control characters")
	}
	if p := s.Password; p != nil && (len(*p) > maxText || strings.ContainsAny(*p, "\x00\r\n")) {
		bad.Add("password", "must not have a line break; a file must not hold a second line")
	}
}

// text tells whether every broker takes s as a string: MQTT lets it end the
// connection for control characters and for code points that are no characters.
func text(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Noncharacter_Code_Point, r)
	})
}
