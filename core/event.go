package core

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Kind is what happened to the record in TrialKit.
type Kind string

// The kinds of event that TrialKit documents.
const (
	Insert Kind = "insert"
	Update Kind = "update"
	Review Kind = "review"
)

// Kinds are all kinds, in the order of TrialKit's help page.
var Kinds = []Kind{Insert, Update, Review}

// UnmarshalText accepts one of the kinds, for config files.
func (k *Kind) UnmarshalText(text []byte) error {
	for _, known := range Kinds {
		if string(text) == string(known) {
			*k = known
			return nil
		}
	}
	return fmt.Errorf("%q is not an event; use insert, update or review", text)
}

// Stage says whether a hook carries real study data.
type Stage string

// The stages. A route never mixes them.
const (
	Live Stage = "live"
	UAT  Stage = "uat"
)

// UnmarshalText accepts one of the stages, for config files.
func (s *Stage) UnmarshalText(text []byte) error {
	switch Stage(text) {
	case Live, UAT:
		*s = Stage(text)
		return nil
	}
	return fmt.Errorf("%q is not a stage; use live or uat", text)
}

// Workflow is the review level an OnReview event is about. Either part may be
// empty: TrialKit's public sample of it is cut.
type Workflow struct {
	ID   string
	Name string
}

// Event is what TrialKit sent.
type Event struct {
	ID          string // UUIDv7
	Ref         string // 8 characters that a user can read over the phone
	Hook        *Hook
	Kind        Kind
	TransID     string // the record
	FormID      string
	FormName    string
	Workflow    Workflow
	ReceivedAt  time.Time // UTC
	TraceParent string    // W3C Trace Context
	Body        []byte    // exactly as sent

	Revision string   // of the configuration that it came under
	Origin   string   // id of the event that this is a second run of, or ""
	Salt     [16]byte // of the digests of what it holds
}

// MaxDepth is how many objects and arrays of an event's body may be within each
// other.
const MaxDepth = 64

// Limits of what else an event may hold, beside the body limit of the hook endpoint.
const (
	maxID   = 128 // bytes of trans_id, form_id and workflow ids
	maxName = 512 // bytes of form_name and workflow names
)

// InvalidEvent says why a body is not an event: which key, and which rule it
// breaks. It never holds a value of the body.
type InvalidEvent struct {
	Key  string // "" when it is about the body as a whole
	Rule string
}

func (e *InvalidEvent) Error() string {
	if e.Key == "" {
		return "the body " + e.Rule
	}
	return e.Key + " " + e.Rule
}

// Ids are no secrets, and a read of the kernel's randomness for each costs more than
// the rest of it.
func init() { uuid.EnableRandPool() }

var utf8BOM = []byte("\xef\xbb\xbf")

const (
	notUTF8 = "is not valid UTF-8"
	notJSON = "is not JSON"
)

// CheckJSON says which rule a text of JSON from outside breaks, "" for none.
func CheckJSON(text []byte) string {
	switch {
	case !utf8.Valid(text):
		return notUTF8
	case depth(text) > MaxDepth: // first: the reader of JSON goes as deep as the text does
		return fmt.Sprintf("is nested deeper than %d levels", MaxDepth)
	case !json.Valid(text):
		return notJSON
	}
	return ""
}

// whereNotJSON says where a text stops being JSON, and nothing of what stands there.
func whereNotJSON(text []byte) string {
	if len(bytes.TrimSpace(text)) == 0 {
		return "is empty"
	}
	var bad *json.SyntaxError
	if !errors.As(json.Unmarshal(text, new(json.RawMessage)), &bad) {
		return notJSON
	}
	if bad.Offset >= int64(len(text)) {
		return fmt.Sprintf("%s: it ends too early, after %d bytes", notJSON, len(text))
	}
	return fmt.Sprintf("%s: it goes wrong at byte %d", notJSON, bad.Offset)
}

// ParseEvent reads TrialKit's dictionary. Kind, ids, names, workflow and Body
// are set; identity and time are the caller's to give ([Event.Stamp]). The error
// is an *[InvalidEvent]. Unknown keys are kept in Body and otherwise ignored.
func ParseEvent(body []byte) (*Event, error) {
	text := bytes.TrimPrefix(body, utf8BOM)
	switch rule := CheckJSON(text); rule {
	case "":
	case notUTF8:
		return nil, &InvalidEvent{Rule: rule + "; send JSON as UTF-8"}
	case notJSON:
		return nil, &InvalidEvent{Rule: whereNotJSON(text) + "; send TrialKit's dictionary as it is"}
	default:
		return nil, &InvalidEvent{Rule: rule}
	}
	top := new(object)
	err := top.read(text, "")
	if err != nil {
		return nil, err
	}

	ev := &Event{Body: body}
	if ev.Kind, err = kindOf(top); err != nil {
		return nil, err
	}
	if ev.TransID, err = text1(top, "", "trans_id", maxID, true); err != nil {
		return nil, err
	}
	if ev.FormID, err = text1(top, "", "form_id", maxID, true); err != nil {
		return nil, err
	}
	if ev.FormName, err = text1(top, "", "form_name", maxName, false); err != nil {
		return nil, err
	}
	if ev.Kind == Review {
		if ev.Workflow, err = workflowOf(top); err != nil {
			return nil, err
		}
	}
	return ev, nil
}

// Stamp gives the event its identity and its receive time.
func (ev *Event) Stamp(hook *Hook, now time.Time) {
	id := uuid.Must(uuid.NewV7())
	_, _ = rand.Read(ev.Salt[:]) // it never fails
	ev.Hook = hook
	ev.ID = id.String()
	ev.Ref = refOf(id)
	ev.ReceivedAt = now.UTC()
	if ev.TraceParent == "" {
		ev.TraceParent = traceParent(id)
	}
}

// Lane is the key whose deliveries on one route keep their order.
func (ev *Event) Lane(route string) string {
	return ev.Hook.Name + "/" + route + "/" + ev.TransID
}

var flags = []struct {
	key  string
	kind Kind
}{{"OnInsert", Insert}, {"OnUpdate", Update}, {"OnReview", Review}}

func kindOf(top *object) (Kind, error) {
	var kind Kind
	var first string
	for _, f := range flags {
		raw := top.get(f.key)
		if raw == nil {
			continue
		}
		switch string(raw) {
		case "true", `"true"`, "1":
		case "false", `"false"`, "0", "null":
			continue
		default:
			return "", &InvalidEvent{Key: f.key, Rule: "must be true or false"}
		}
		if kind != "" {
			return "", &InvalidEvent{Key: f.key, Rule: "contradicts " + first + ": exactly one of OnInsert, OnUpdate and OnReview must be true"}
		}
		kind, first = f.kind, f.key
	}
	if kind == "" {
		return "", &InvalidEvent{Key: "OnInsert, OnUpdate, OnReview", Rule: "are missing or false: exactly one of them must be true"}
	}
	return kind, nil
}

func workflowOf(top *object) (Workflow, error) {
	var w Workflow
	var err error
	if w.ID, err = text1(top, "", "wf_id", maxID, false); err != nil {
		return w, err
	}
	raw := top.get("wf_object")
	if raw == nil || string(raw) == "null" {
		return w, nil
	}
	var inner object
	if err := inner.read(raw, "wf_object"); err != nil {
		return w, err
	}
	if w.Name, err = text1(&inner, "wf_object.", "wf_name", maxName, false); err != nil {
		return w, err
	}
	id, err := text1(&inner, "wf_object.", "wf_id", maxID, false)
	if err != nil {
		return w, err
	}
	if w.ID == "" {
		w.ID = id
	} else if id != "" && id != w.ID {
		return w, &InvalidEvent{Key: "wf_object.wf_id", Rule: "contradicts wf_id"}
	}
	return w, nil
}

// keys are those of ours. They must not stand twice: with two values it would depend
// on the reader which one counts. Others are not ours to judge.
var keys = [...]string{
	"trans_id", "form_id", "form_name", "OnInsert", "OnUpdate", "OnReview", "wf_id", "wf_object", "wf_name",
}

// object is what an object of JSON says to our keys. By far the most of an event is
// passed on unread.
type object [len(keys)][]byte

// get is the value of a key, nil if it is not there.
func (o *object) get(key string) []byte {
	if i := slices.Index(keys[:], key); i >= 0 {
		return o[i]
	}
	return nil
}

// read splits the object that text, valid JSON, holds. key is where it stands.
func (o *object) read(text []byte, key string) error {
	text = bytes.TrimSpace(text)
	if text[0] != '{' {
		return &InvalidEvent{Key: key, Rule: "must be a JSON object"}
	}
	prefix := ""
	if key != "" {
		prefix = key + "."
	}
	for rest := text[1:]; ; {
		rest = bytes.TrimLeft(rest, " \t\r\n,")
		if rest[0] == '}' {
			return nil
		}
		quoted := rest[:valueLen(rest)]
		rest = bytes.TrimLeft(rest[len(quoted):], " \t\r\n:")
		value := rest[:valueLen(rest)]
		rest = rest[len(value):]
		name := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			var plain string
			if json.Unmarshal(quoted, &plain) != nil {
				return &InvalidEvent{Key: key, Rule: "is not JSON"}
			}
			name = []byte(plain)
		}
		for i, ours := range keys {
			if string(name) != ours {
				continue
			}
			if o[i] != nil {
				return &InvalidEvent{Key: prefix + ours, Rule: "stands twice; send it once"}
			}
			o[i] = value
		}
	}
}

// valueLen is the length of the value that valid JSON begins with.
func valueLen(text []byte) int {
	now, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && now == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			now++
		case c == '}' || c == ']':
			if now == 0 {
				return i // the end of what holds a number or a word
			}
			if now--; now == 0 {
				return i + 1
			}
		case now == 0 && (c == ',' || c == ':' || c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			return i
		}
	}
	return len(text)
}

// text1 reads a string or an integer as one line of text.
func text1(o *object, prefix, key string, limit int, required bool) (string, error) {
	raw := o.get(key)
	if raw == nil || string(raw) == "null" {
		if required {
			return "", &InvalidEvent{Key: prefix + key, Rule: "is missing"}
		}
		return "", nil
	}
	s, rule := lineOf(raw, limit, required)
	if rule != "" {
		return "", &InvalidEvent{Key: prefix + key, Rule: rule}
	}
	return s, nil
}

func lineOf(raw []byte, limit int, required bool) (s, rule string) {
	const wrong = "must be a string or a whole number"
	switch {
	case raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0:
		s = string(raw[1 : len(raw)-1])
	case raw[0] == '"':
		if json.Unmarshal(raw, &s) != nil {
			return "", wrong
		}
	case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
		if bytes.ContainsAny(raw, ".eE") {
			return "", wrong
		}
		s = string(raw)
	default:
		return "", wrong
	}
	switch {
	case required && strings.TrimSpace(s) == "":
		return "", "must not be empty"
	case len(s) > limit:
		return "", fmt.Sprintf("must be at most %d bytes long", limit)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", "must not hold control characters"
	}
	return s, ""
}

// depth is the deepest nesting of text, which need not be valid JSON.
func depth(text []byte) int {
	deepest, now, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// crockford leaves out I, L, O and U, which are misheard or misread.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// refOf spells the id's last 40 random bits.
func refOf(id uuid.UUID) string {
	var n uint64
	for _, b := range id[11:] {
		n = n<<8 | uint64(b)
	}
	var ref [8]byte
	for i := range ref {
		ref[i] = crockford[n>>(35-5*i)&31]
	}
	return string(ref[:])
}

// traceParent makes the event's own id the trace id, so that a trace can be
// found from the event and back (W3C Trace Context, section 3.2).
func traceParent(id uuid.UUID) string {
	const hex = "0123456789abcdef"
	buf := make([]byte, 0, 55)
	buf = append(buf, "00-"...)
	for _, b := range id {
		buf = append(buf, hex[b>>4], hex[b&15])
	}
	buf = append(buf, '-')
	for _, b := range id[8:] {
		buf = append(buf, hex[b>>4], hex[b&15])
	}
	return string(append(buf, "-01"...))
}
