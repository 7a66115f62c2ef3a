package transforms_test

import (
	"strings"
	"testing"
)

// The record is event.record, whatever the event itself has under that name; without
// one the event is as it came.
func TestRecord(t *testing.T) {
	e := start(t, nil)
	tr := compile(t, e, `export default (event) => ({ id: event.trans_id, record: event.record, last: Object.keys(event).at(-1) })`, 0)
	const body = `{"trans_id":"1","record":"the event's own"}`
	for record, want := range map[string]string{
		"":                       `{"id":"1","record":"the event's own","last":"record"}`,
		`{"a":[1,null],"b":"x"}`: `{"id":"1","record":{"a":[1,null],"b":"x"},"last":"record"}`,
		`[]`:                     `{"id":"1","record":[],"last":"record"}`,
		`{"__proto__":{"a":1}}`:  `{"id":"1","record":{"__proto__":{"a":1}},"last":"record"}`,
	} {
		shaped, err := tr.Transform(t.Context(), event(body), route, delivery, []byte(record))
		if err != nil {
			t.Errorf("%s: %v", record, err)
			continue
		}
		if got := string(shaped.Messages[0].Payload); got != want {
			t.Errorf("%s: got %s, want %s", record, got, want)
		}
	}
	_, err := tr.Transform(t.Context(), event(body), route, delivery, []byte("Jane Doe"))
	if err == nil || !strings.Contains(err.Error(), "event.record cannot be read") || strings.Contains(err.Error(), "Jane") {
		t.Error(err)
	}
}
