// Package target is what transports over a network share: reading settings,
// refusing addresses, TLS whose files are read again, the receipts of connections that
// were not made, connections that are shared or kept, and what holds for the headers of
// a transform.
package target

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hookline/hookline/plugins/transport"
)

// maxDuration bounds a time in the settings.
const maxDuration = 24 * time.Hour

// Faults gathers what is wrong with settings, so that all of it is told at once. No
// value may appear in it: it may be a secret, or hold one.
type Faults []error

// Add notes that a field breaks a rule, which says what the value must be.
func (f *Faults) Add(field, rule string, args ...any) {
	*f = append(*f, &transport.SettingError{Field: field, Rule: fmt.Sprintf(rule, args...)})
}

// Err is nil, or joins one *[transport.SettingError] for each fault.
func (f Faults) Err() error { return errors.Join(f...) }

// Duration reads a time such as "10s": more than 0, at most 24 h.
func (f *Faults) Duration(field, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxDuration {
		f.Add(field, `must be a time such as "10s", more than 0 and at most 24h`)
	}
	return d
}

// Address reads "host" or "host:port", an IPv6 address in brackets, into what
// net.Dial takes and the host for TLS.
func (f *Faults) Address(field, s, port string) (addr, host string) {
	host, usual := s, port
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || host == "" || !ValidHost(host) {
		f.Add(field, `must be a host, or host:port, such as "db.example.org:%s"`, usual)
	}
	return net.JoinHostPort(host, port), host
}

// Decode reads the settings of the transport called name over the defaults in into,
// strictly. An error is a *[transport.SettingError].
func Decode(name string, raw json.RawMessage, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return decodeError(name, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &transport.SettingError{Rule: "must be one JSON object, nothing may follow it"}
	}
	return nil
}

// decodeError names the field without repeating its value.
func decodeError(name string, err error) error {
	if _, ok := errors.AsType[*transport.SettingError](err); ok {
		return err
	}
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		want := typ.Type.String()
		switch typ.Type.Kind().String() {
		case "struct", "map":
			want = "a table"
		case "slice":
			want = "a list"
		case "int":
			want = "a whole number"
		case "bool":
			want = "true or false"
		case "string":
			want = "text"
		}
		// encoding/json names an embedded struct too.
		return &transport.SettingError{Field: strings.TrimPrefix(typ.Field, "Network."), Rule: "must be " + want}
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return &transport.SettingError{Field: strings.Trim(field, `"`), Rule: "is not a setting of the " + name + " transport"}
	}
	return &transport.SettingError{Rule: "must be a JSON object"}
}

// ValidHost tells whether h is a name in ASCII or an IP address.
func ValidHost(h string) bool {
	if strings.Contains(h, ":") {
		_, err := netip.ParseAddr(h)
		return err == nil
	}
	stray := strings.ContainsFunc(h, func(c rune) bool {
		return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._", c)
	})
	return !stray && len(h) <= 253
}

// HasControl tells whether s has ASCII control characters.
func HasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
