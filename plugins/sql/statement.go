package sql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hookline/hookline/plugins/transport"
)

// statement is what is prepared, with a place for each parameter. A parameter that
// stands twice has two places, as each has a type of its own.
type statement struct {
	text    string // with $1 or ?
	sources []source
	verb    string // of an own statement
	commits bool   // it may commit by itself

	// Of an upsert only.
	table []string // schema and name, or the name alone
	key   string   // the column with the message's id
}

// column is a column and what goes into it.
type column struct {
	name string
	source
}

// source is where a parameter's value comes from.
type source struct {
	name    string // one of parameters; "" for a pointer
	pointer []string
}

// parameters are the names that a statement may use, and their values. What is not set
// is null.
var parameters = map[string]func(*transport.Message) any{
	"id":           func(m *transport.Message) any { return set(m.ID) },
	"event_id":     func(m *transport.Message) any { return set(m.EventID) },
	"delivery_id":  func(m *transport.Message) any { return set(m.DeliveryID) },
	"attempt":      func(m *transport.Message) any { return strconv.Itoa(m.Attempt) },
	"hook":         func(m *transport.Message) any { return set(m.Hook) },
	"route":        func(m *transport.Message) any { return set(m.Route) },
	"study":        func(m *transport.Message) any { return set(m.Study) },
	"stage":        func(m *transport.Message) any { return set(m.Stage) },
	"lane":         func(m *transport.Message) any { return set(m.Lane) },
	"kind":         func(m *transport.Message) any { return set(m.Kind) },
	"received_at":  func(m *transport.Message) any { return m.ReceivedAt.UTC() },
	"traceparent":  func(m *transport.Message) any { return set(m.TraceParent) },
	"content_type": func(m *transport.Message) any { return set(m.ContentType) },
	"key":          func(m *transport.Message) any { return set(m.Key) },
	"path":         func(m *transport.Message) any { return set(m.Path) },
	"headers":      headers,
	"payload":      func(m *transport.Message) any { return append([]byte{}, m.Payload...) },
}

func set(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func headers(m *transport.Message) any {
	if len(m.Headers) == 0 {
		return nil
	}
	out, _ := json.Marshal(m.Headers) // a map of strings
	return string(out)
}

var errNoParameter = errors.New(`must be a parameter such as ":id", ":payload" or ":received_at", or a JSON pointer into the payload such as ":/trans_id"; see the page of the sql transport`)

// parseSource reads a column's ":name" or ":/pointer".
func parseSource(s string) (source, error) {
	name, found := strings.CutPrefix(s, ":")
	if found && strings.HasPrefix(name, "/") {
		return parsePointer(name)
	}
	if !found || parameters[name] == nil {
		return source{}, errNoParameter
	}
	return source{name: name}, nil
}

// parsePointer reads a JSON pointer (RFC 6901).
func parsePointer(s string) (source, error) {
	var out []string
	for _, part := range strings.Split(s[1:], "/") {
		if rest := strings.NewReplacer("~0", "", "~1", "").Replace(part); strings.Contains(rest, "~") {
			return source{}, errors.New(`has a JSON pointer with a ~ that is neither ~0 (for ~) nor ~1 (for /)`)
		}
		out = append(out, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return source{pointer: out}, nil
}

// values are those of the message, in the order of the places. They are nil, string,
// bool, []byte or time.Time.
func (s *statement) values(m *transport.Message) ([]any, error) {
	out := make([]any, len(s.sources))
	var doc []byte // once a pointer asks for it
	for i, src := range s.sources {
		if src.name != "" {
			out[i] = parameters[src.name](m)
			continue
		}
		if doc == nil {
			doc = bytes.TrimPrefix(m.Payload, []byte("\xef\xbb\xbf"))
		}
		if !json.Valid(doc) {
			return nil, errors.New("the payload is not JSON, so a JSON pointer leads nowhere; have the transform make JSON, or use :payload")
		}
		out[i] = at(doc, src.pointer)
	}
	return out, nil
}

// at follows a pointer through valid JSON. What is not there is nil, text is itself,
// and of anything else it is the text as it stands.
func at(doc json.RawMessage, pointer []string) any {
	for _, part := range pointer {
		switch doc = bytes.TrimSpace(doc); doc[0] {
		case '{':
			var object map[string]json.RawMessage
			if json.Unmarshal(doc, &object) != nil {
				return nil
			}
			doc = object[part]
		case '[':
			var list []json.RawMessage
			n, err := strconv.Atoi(part)
			if err != nil || strconv.Itoa(n) != part || json.Unmarshal(doc, &list) != nil || n < 0 || n >= len(list) {
				return nil
			}
			doc = list[n]
		default:
			return nil
		}
		if doc == nil {
			return nil
		}
	}
	switch doc = bytes.TrimSpace(doc); doc[0] {
	case 'n':
		return nil
	case 't', 'f':
		return doc[0] == 't'
	case '"':
		var text string
		if json.Unmarshal(doc, &text) != nil {
			return nil
		}
		return text
	}
	return string(doc)
}

// upsert writes a row unless the key is there.
func upsert(dialect string, table []string, columns []column, key string, update bool) *statement {
	quote := func(name string) string { return `"` + name + `"` }
	if dialect == mariaDB {
		quote = func(name string) string { return "`" + name + "`" }
	}
	st := &statement{table: table, key: key}
	var names, places, sets []string
	id := quote(key)
	for i, c := range columns {
		st.sources = append(st.sources, c.source)
		name := quote(c.name)
		names, places = append(names, name), append(places, place(dialect, i+1))
		if c.name == key || !update {
			continue
		}
		if dialect == mariaDB {
			// It asks for any unique key; the row of another message must stay.
			sets = append(sets, fmt.Sprintf("%s = if(%s = values(%s), values(%s), %s)", name, id, id, name, name))
		} else {
			sets = append(sets, name+" = excluded."+name)
		}
	}
	var quoted []string
	for _, part := range table {
		quoted = append(quoted, quote(part))
	}
	st.text = fmt.Sprintf("insert into %s (%s) values (%s) ", strings.Join(quoted, "."), strings.Join(names, ", "), strings.Join(places, ", "))
	switch {
	case dialect == mariaDB:
		// Not "insert ignore", which turns data that does not fit into a warning.
		st.text += "on duplicate key update " + strings.Join(append(sets, id+" = "+id), ", ")
	case len(sets) == 0:
		st.text += "on conflict (" + id + ") do nothing"
	default:
		st.text += "on conflict (" + id + ") do update set " + strings.Join(sets, ", ")
	}
	return st
}

func place(dialect string, n int) string {
	if dialect == mariaDB {
		return "?"
	}
	return "$" + strconv.Itoa(n)
}
