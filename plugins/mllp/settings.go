package mllp

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"

	"github.com/hookline/hookline/plugins/target"
)

// settings is the JSON as written; settings.schema.json describes it.
type settings struct {
	Address         string      `json:"address"`
	TLS             *target.TLS `json:"tls"`
	WaitFor         string      `json:"wait_for"`
	RetryOn         []string    `json:"retry_on"`
	Charset         string      `json:"charset"`
	ConvertLineEnds bool        `json:"convert_line_ends"`
	Connections     int         `json:"connections"`
	IdleTimeout     string      `json:"idle_timeout"`
	MaxReply        int         `json:"max_reply"`
	target.Network
}

// defaults are those that the schema tells; a test holds the two together.
func defaults() settings {
	return settings{
		WaitFor: "accept", RetryOn: []string{"AE", "CE"}, Charset: charsetUTF8, ConvertLineEnds: true,
		Connections: 1, IdleTimeout: "5m", MaxReply: 64 << 10, Network: target.DefaultNetwork(),
	}
}

const (
	charsetUTF8  = "utf-8"
	charsetASCII = "ascii"
	defaultPort  = "2575" // IANA's for HL7
)

// charsets are those that a byte stream framed by control characters can carry, with
// their names in HL7 table 0211.
var charsets = map[string]struct {
	encoder encoding.Encoding // nil: the payload as it is
	hl7     string            // "": it has none
}{
	charsetUTF8:    {nil, "UNICODE UTF-8"},
	charsetASCII:   {nil, "ASCII"},
	"iso-8859-1":   {charmap.ISO8859_1, "8859/1"},
	"iso-8859-2":   {charmap.ISO8859_2, "8859/2"},
	"iso-8859-5":   {charmap.ISO8859_5, "8859/5"},
	"iso-8859-7":   {charmap.ISO8859_7, "8859/7"},
	"iso-8859-9":   {charmap.ISO8859_9, "8859/9"},
	"iso-8859-15":  {charmap.ISO8859_15, "8859/15"},
	"windows-1252": {charmap.Windows1252, ""},
}

// link is the settings as they are used. It does not change.
type link struct {
	addr, host   string
	tls          *target.TLS
	application  bool // CA is not the end if the message asks for the application's word
	retryOn      []string
	charset      string
	characterSet string // of table 0211
	encoder      encoding.Encoding
	convert      bool
	connections  int
	idleTimeout  time.Duration
	maxReply     int
}

func parseSettings(raw json.RawMessage) (*link, *target.Dialer, error) {
	s := defaults()
	if err := target.Decode("mllp", raw, &s); err != nil {
		return nil, nil, err
	}
	var bad target.Faults
	l := &link{
		tls: s.TLS, application: s.WaitFor == "application", retryOn: s.RetryOn, charset: s.Charset,
		convert: s.ConvertLineEnds, connections: s.Connections, maxReply: s.MaxReply,
	}
	if s.Address == "" {
		bad.Add("address", "is missing; it must be a host, or host:port")
	} else {
		l.addr, l.host = bad.Address("address", s.Address, defaultPort)
	}
	s.TLS.Check(&bad)
	if s.WaitFor != "accept" && s.WaitFor != "application" {
		bad.Add("wait_for", "must be accept or application")
	}
	for i, code := range s.RetryOn {
		if !slices.Contains([]string{"AE", "AR", "CE", "CR"}, code) {
			bad.Add("retry_on["+strconv.Itoa(i)+"]", "must be AE, AR, CE or CR")
		}
	}
	set, known := charsets[s.Charset]
	if !known {
		bad.Add("charset", "must be utf-8, ascii, iso-8859-1, -2, -5, -7, -9 or -15, or windows-1252")
	}
	l.encoder, l.characterSet = set.encoder, set.hl7
	if s.Connections < 1 || s.Connections > 256 {
		bad.Add("connections", "must be from 1 to 256")
	}
	l.idleTimeout = bad.Duration("idle_timeout", s.IdleTimeout)
	if s.MaxReply < 1024 || s.MaxReply > 1<<20 {
		bad.Add("max_reply", "must be from 1024 to 1048576 bytes")
	}
	dialer := s.Dialer(&bad)
	if err := bad.Err(); err != nil {
		return nil, nil, err
	}
	return l, dialer, nil
}
