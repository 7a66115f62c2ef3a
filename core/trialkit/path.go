package trialkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

const maxPath = 1024 // bytes

// unescaped are the characters that may stand in a path as they are, beside letters
// and digits: those of RFC 3986.
const unescaped = "-._~!$&'()*+,;=:@"

// checkPath says why something is no path below the API's URL: it could lead out
// of it, or say more than where. The error never holds the path.
func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("must not be empty")
	case len(path) > maxPath:
		return errors.New("must not be longer than " + strconv.Itoa(maxPath) + " bytes")
	case strings.HasPrefix(path, "/"):
		return errors.New("must not begin with /")
	case strings.Contains(path, "://"):
		return errors.New("must not name a server")
	}
	for segment := range strings.SplitSeq(path, "/") {
		name, _, _ := strings.Cut(segment, ";") // some servers take ..;x for ..
		switch {
		case segment == "":
			return errors.New("must not have an empty part, as // or an end in / makes")
		case name == ".", name == "..":
			return errors.New("must not have . or .. as a part")
		}
		if err := checkSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

func checkSegment(s string) error {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9', strings.IndexByte(unescaped, c) >= 0:
		case c == '%':
			n, err := strconv.ParseUint(s[min(i+1, len(s)):min(i+3, len(s))], 16, 8)
			if err != nil || i+2 >= len(s) || s[i+1] == '+' || s[i+1] == '-' {
				return errors.New("must have two hexadecimal digits after each %")
			}
			// Servers differ in when they decode, so that these could end a part
			// or mean "one up".
			if n < ' ' || n == 0x7f || strings.IndexByte(`/\.%`, byte(n)) >= 0 {
				return errors.New(`must not have /, \, ., % or a control character, not even escaped`)
			}
			i += 2
		case c == '?' || c == '#':
			return errors.New("must not have a query or a fragment")
		default:
			return errors.New("must have %XX for spaces and for characters beyond ASCII (encodeURIComponent does that)")
		}
	}
	return nil
}

// parsePointer reads a JSON pointer (RFC 6901). Without a / at its begin it is a key
// of the top.
func parsePointer(s string) ([]string, error) {
	if !strings.HasPrefix(s, "/") {
		return []string{s}, nil
	}
	parts := strings.Split(s[1:], "/")
	for i, p := range parts {
		for at := 0; at < len(p); at++ {
			if p[at] == '~' && (at+1 == len(p) || p[at+1] != '0' && p[at+1] != '1') {
				return nil, errors.New("must have ~0 for ~ and ~1 for / in a key (RFC 6901)")
			}
		}
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
	}
	return parts, nil
}

// textAt is the string, or the number, that a pointer leads to.
func textAt(record []byte, pointer []string) (string, bool) {
	for _, part := range pointer {
		switch record = bytes.TrimSpace(record); {
		case bytes.HasPrefix(record, []byte("{")):
			var members map[string]json.RawMessage
			if json.Unmarshal(record, &members) != nil {
				return "", false
			}
			record = members[part]
		case bytes.HasPrefix(record, []byte("[")):
			var items []json.RawMessage
			n, err := strconv.ParseUint(part, 10, 31)
			if err != nil || json.Unmarshal(record, &items) != nil || int(n) >= len(items) {
				return "", false
			}
			record = items[n]
		default:
			return "", false
		}
	}
	var value any
	d := json.NewDecoder(bytes.NewReader(record))
	d.UseNumber()
	if d.Decode(&value) != nil {
		return "", false
	}
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	}
	return "", false
}
