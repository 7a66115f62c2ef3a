package main

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// idDigits is how long an event's record number is: always the same, so that a
// body can be compared without being parsed.
const idDigits = 12

// template is a body with a place for the record number.
type template struct {
	Text string `json:"text"`
	ID   int    `json:"id"` // where the digits begin
}

// newTemplate takes the text with # for the digits.
func newTemplate(text string) *template {
	at := strings.IndexByte(text, '#')
	return &template{Text: strings.Replace(text, "#", strings.Repeat("0", idDigits), 1), ID: at}
}

// put writes the digits into b, which holds the text.
func (t *template) put(b []byte, id uint64) {
	for i := t.ID + idDigits - 1; i >= t.ID; i-- {
		b[i] = byte('0' + id%10)
		id /= 10
	}
}

// match tells whether b is the text with any number, and which.
func (t *template) match(b []byte) (id uint64, ok bool) {
	end := t.ID + idDigits
	if len(b) != len(t.Text) || string(b[:t.ID]) != t.Text[:t.ID] || string(b[end:]) != t.Text[end:] {
		return 0, false
	}
	for _, c := range b[t.ID:end] {
		if c < '0' || c > '9' {
			return 0, false
		}
		id = 10*id + uint64(c-'0')
	}
	return id, true
}

// What is sent: TrialKit's own example, and what the transform makes of it.
var (
	sent    = newTemplate(`{"trans_id":"#","form_id":"319","form_name":"Sample Form","OnInsert":true}`)
	renamed = newTemplate(`{"record":"#","form":{"id":"319","name":"Sample Form"},"change":"insert"}`)
)

const renameScript = `export default function (event, ctx) {
  return {
    record: event.trans_id,
    form: { id: event.form_id, name: event.form_name },
    change: ctx.kind,
  };
}
`

// Credentials. The target checks them, whoever calls it.
const (
	hookUser, hookPassword     = "trialkit@example.org", "hook-password-of-the-bench"
	targetUser, targetPassword = "hookline", "target-password-of-the-bench"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// requestHead is what comes before the body of each request.
func requestHead(addr, path, authorization string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		path, addr, authorization, len(sent.Text))
}
