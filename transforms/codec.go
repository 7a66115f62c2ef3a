package transforms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

// maxSafe is the largest integer up to which a JavaScript number is exact.
const maxSafe = 1<<53 - 1

var utf8BOM = []byte("\xef\xbb\xbf")

// decodeEvent makes the event's body a value of rt. Keys keep their order as far
// as JavaScript has one. A number that JavaScript would round because it is an
// integer beyond 2^53 stays a string of its digits: a rounded id is another id.
//
// Nothing of a script runs here: there is no deadline to watch.
func decodeEvent(rt *goja.Runtime, body []byte) (goja.Value, error) {
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, utf8BOM)))
	dec.UseNumber()
	v, err := decodeValue(rt, dec)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one JSON value")
	}
	return v, nil
}

func decodeValue(rt *goja.Runtime, dec *json.Decoder) (goja.Value, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, errors.New("it is not JSON") // the decoder's text may quote it
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return decodeObject(rt, dec)
		}
		return decodeArray(rt, dec)
	case json.Number:
		return decodeNumber(rt, string(t)), nil
	case nil:
		return goja.Null(), nil
	default: // string, bool
		return rt.ToValue(t), nil
	}
}

func decodeObject(rt *goja.Runtime, dec *json.Decoder) (goja.Value, error) {
	o := rt.NewObject()
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errors.New("it is not JSON")
		}
		key, _ := t.(string)
		v, err := decodeValue(rt, dec)
		if err != nil {
			return nil, err
		}
		// Not Set, which would run the setter of "__proto__".
		if err := o.DefineDataProperty(key, v, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE); err != nil {
			return nil, fmt.Errorf("a key cannot be set: %w", err)
		}
	}
	_, err := dec.Token()
	return o, err
}

func decodeArray(rt *goja.Runtime, dec *json.Decoder) (goja.Value, error) {
	var items []any
	for dec.More() {
		v, err := decodeValue(rt, dec)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	_, err := dec.Token()
	return rt.NewArray(items...), err
}

func decodeNumber(rt *goja.Runtime, digits string) goja.Value {
	if !strings.ContainsAny(digits, ".eE") {
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n >= -maxSafe && n <= maxSafe && digits != "-0" {
			return rt.ToValue(n)
		}
		if digits != "-0" {
			return rt.ToValue(digits)
		}
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil { // beyond what a number can hold
		return rt.ToValue(digits)
	}
	return rt.ToValue(f)
}
