package transforms

import (
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/dop251/goja"
	"golang.org/x/net/http/httpguts"

	"github.com/hookline/hookline/plugins/transport"
	pb "github.com/hookline/hookline/transforms/transformpb"
)

// Limits of what ctx.message takes, in bytes where they are no numbers.
const (
	maxMessages    = 100 // of one event
	maxHeaders     = 64  // of one message
	maxHeaderBytes = 16 << 10
	maxContentType = 255
	maxKey         = 1 << 10
	maxMessagePath = 8 << 10
)

// message is what ctx.message made. It counts only if it is returned.
type message struct {
	content *pb.Content
	object  *goja.Object
	at      place
}

// message is ctx.message. The payload is written down here and now: what the
// script does to it later changes nothing, and an error has the line.
func (s *sandbox) message(c goja.FunctionCall) goja.Value {
	r := s.run
	if len(r.messages) >= maxMessages {
		panic(s.rt.NewTypeError("ctx.message: one event makes at most %d messages", maxMessages))
	}
	content := s.messagePayload(c.Argument(0))
	s.messageOptions(content, c.Argument(1))
	if r.sized += len(content.GetPayload()); r.sized > maxOutput {
		panic(s.rt.NewTypeError("ctx.message: the payloads have %d bytes together, the limit is %d", r.sized, maxOutput))
	}
	m := message{content: content, object: s.rt.NewObject(), at: r.program.position(s.rt.CaptureCallStack(0, nil))}
	if _, err := s.freeze(goja.Undefined(), m.object); err != nil {
		panic(err)
	}
	r.messages = append(r.messages, m)
	return m.object
}

func (s *sandbox) messagePayload(v goja.Value) *pb.Content {
	if o, ok := v.(*goja.Object); ok && (s.run.isMessage(o) >= 0 || s.run.isWord(o) || promiseOf(v) != nil || o.ClassName() == "Function") {
		what := kindOf(v)
		switch {
		case s.run.isMessage(o) >= 0:
			what = "itself a message"
		case s.run.isWord(o):
			what = "what ctx.skip or ctx.reject made"
		}
		panic(s.rt.NewTypeError("ctx.message: the payload is %s", what))
	}
	content := &pb.Content{}
	err := s.run.content(v, content)
	if f, ok := err.(*failure); ok { //nolint:errorlint // made by content, never wrapped
		if what, ok := strings.CutPrefix(f.text, "the script returned "); ok {
			what, _, _ = strings.Cut(what, ": ")
			panic(s.rt.NewTypeError("ctx.message: the payload is %s", what))
		}
		panic(s.rt.NewTypeError("ctx.message: %s", f.text))
	} else if err != nil {
		panic(err) // what a toJSON threw
	}
	return content
}

// messageOptions reads the second argument into the message.
func (s *sandbox) messageOptions(content *pb.Content, v goja.Value) {
	if goja.IsUndefined(v) {
		return
	}
	options, ok := v.(*goja.Object)
	if !ok || options.ClassName() == "Array" || options.ClassName() == "Function" {
		panic(s.rt.NewTypeError("ctx.message: the options must be an object, but are %s", kindOf(v)))
	}
	for _, key := range options.Keys() {
		value := options.Get(key)
		if value == nil || goja.IsUndefined(value) {
			continue
		}
		switch key {
		case "headers":
			s.messageHeaders(content, value)
			continue
		case "contentType", "key", "path":
		default:
			panic(s.rt.NewTypeError("ctx.message: there is no option %.60q; the options are contentType, headers, key and path", key))
		}
		if !goja.IsString(value) {
			panic(s.rt.NewTypeError("ctx.message: %s must be a string, but is %s", key, kindOf(value)))
		}
		text := value.String()
		if err := checkOption(key, text); err != nil {
			panic(s.rt.NewTypeError("ctx.message: %s", err.Error()))
		}
		switch key {
		case "contentType":
			content.ContentType = text
		case "key":
			content.Key = text
		case "path":
			content.Path = text
		}
	}
}

func checkOption(key, text string) error {
	limit := map[string]int{"contentType": maxContentType, "key": maxKey, "path": maxMessagePath}[key]
	switch {
	case len(text) > limit:
		return fmt.Errorf("%s has %d bytes, the limit is %d", key, len(text), limit)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("%s has a control character", key)
	case key == "contentType":
		if _, _, err := mime.ParseMediaType(text); err != nil || !strings.Contains(text, "/") || !ascii(text) {
			return fmt.Errorf("contentType must be a media type such as text/csv or application/fhir+json; charset=utf-8")
		}
	}
	return nil
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}

// messageHeaders reads headers, by the rules of RFC 9110 section 5.
func (s *sandbox) messageHeaders(content *pb.Content, v goja.Value) {
	table, ok := v.(*goja.Object)
	if !ok || table.ClassName() == "Array" || table.ClassName() == "Function" {
		panic(s.rt.NewTypeError("ctx.message: headers must be an object, but are %s", kindOf(v)))
	}
	names := table.Keys()
	if len(names) > maxHeaders {
		panic(s.rt.NewTypeError("ctx.message: there are %d headers, the limit is %d", len(names), maxHeaders))
	}
	total := 0
	for _, name := range names {
		value := table.Get(name)
		if value == nil || goja.IsUndefined(value) {
			continue
		}
		if !goja.IsString(value) {
			panic(s.rt.NewTypeError("ctx.message: header %.60q must be a string, but is %s", name, kindOf(value)))
		}
		text := value.String()
		if err := checkHeader(content.GetHeaders(), name, text); err != nil {
			panic(s.rt.NewTypeError("ctx.message: %s", err.Error()))
		}
		if total += len(name) + len(text); total > maxHeaderBytes {
			panic(s.rt.NewTypeError("ctx.message: the headers have more than %d bytes", maxHeaderBytes))
		}
		if content.Headers == nil {
			content.Headers = map[string]string{}
		}
		content.Headers[name] = text
	}
}

func checkHeader(had map[string]string, name, value string) error {
	lower := strings.ToLower(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("%.60q is not the name of a header", name)
	case lower == "content-type":
		return fmt.Errorf("write the option contentType for header %s", name)
	case transport.ReservedHeader(lower):
		return fmt.Errorf("header %s is one that Hookline or HTTP itself sets: leave it out", name)
	case !httpguts.ValidHeaderFieldValue(value):
		return fmt.Errorf("the value of header %s has a control character", name)
	case strings.Trim(value, " \t") != value:
		return fmt.Errorf("the value of header %s has a space at an end: trim() it", name)
	}
	for other := range had {
		if strings.EqualFold(other, name) {
			return fmt.Errorf("header %s stands there twice: names do not differ by case", name)
		}
	}
	return nil
}

// isMessage is the index of the message that o is, or -1.
func (r *run) isMessage(o *goja.Object) int {
	return slices.IndexFunc(r.messages, func(m message) bool { return m.object == o })
}

func (r *run) isWord(o *goja.Object) bool {
	return slices.ContainsFunc(r.words, func(w word) bool { return w.object == o })
}

// returned are the messages that a result is or holds; nil: it is a payload. Every
// message that was made must be among them.
func (r *run) returned(result goja.Value) ([]*pb.Content, error) {
	o, ok := result.(*goja.Object)
	if !ok {
		return nil, r.unreturned(nil)
	}
	if i := r.isMessage(o); i >= 0 {
		return []*pb.Content{r.messages[i].content}, r.unreturned(map[int]bool{i: true})
	}
	if o.ClassName() != "Array" {
		return nil, r.unreturned(nil)
	}
	return r.returnedArray(o)
}

func (r *run) returnedArray(o *goja.Object) (contents []*pb.Content, err error) {
	var n int64
	plain, promised := -1, false
	seen := map[int]bool{}
	thrown := r.sandbox.rt.Try(func() {
		if n = o.Get("length").ToInteger(); len(r.messages) == 0 && n > 0 {
			return // a payload, which may be long
		}
		for i := range n {
			item := o.Get(strconv.FormatInt(i, 10))
			if element, ok := item.(*goja.Object); ok {
				if at := r.isMessage(element); at >= 0 {
					contents, seen[at] = append(contents, r.messages[at].content), true
					if len(contents) > maxMessages {
						break
					}
					continue
				}
			}
			if plain < 0 {
				plain, promised = int(i), promiseOf(item) != nil
				err = &failure{text: fmt.Sprintf("item %d of the array that the script returned is %s and not a message: return messages of ctx.message, or values, but not both", i, kindOf(item))}
			}
		}
	})
	switch {
	case thrown != nil:
		return nil, thrown // a getter of the script's
	case n == 0:
		return nil, &failure{text: `the script returned an empty array: nothing is ever dropped in silence, return ctx.skip("why")`}
	case len(contents) > maxMessages:
		return nil, &failure{text: fmt.Sprintf("the script returned more than %d messages: one event makes at most as many", maxMessages)}
	case promised:
		return nil, &failure{text: fmt.Sprintf("item %d of the array that the script returned is a promise: write `return await Promise.all([...])`", plain)}
	case len(contents) > 0 && err != nil:
		return nil, err
	}
	return contents, r.unreturned(seen)
}

// unreturned is the error for a message that was made and is not among those.
func (r *run) unreturned(among map[int]bool) error {
	for i, m := range r.messages {
		if !among[i] {
			return &failure{at: m.at, text: "the result of ctx.message was not returned: write `return ctx.message(...)`, or return an array of all messages"}
		}
	}
	return nil
}
