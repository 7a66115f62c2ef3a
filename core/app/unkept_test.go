package app_test

import (
	"net/http"
	"strings"
	"testing"
)

// Without a journal nothing can be delivered later: an event that finds no place at its
// transport within its caller's time is an error, and never accepted.
func TestNoPlaceWithoutAJournal(t *testing.T) {
	hold := newGate(t)
	toml := strings.Replace(preamble, `timeout = "5s"`, `timeout = "500ms"`, 1) + `
[journal]
url = "none"
` + strings.Replace(route("ehr", hold.url, `timeout = "500ms"`, ""), "plugin = \"http\"\n", "plugin = \"http\"\nrate = 0.1\n", 1)
	d := start(t, toml)
	first := make(chan *answer, 1)
	go func() { first <- d.send(call{body: event("319")}) }()
	hold.await(t)
	if a := d.send(call{body: event("320")}); a.status != http.StatusServiceUnavailable || a.Code != "overloaded" {
		t.Errorf("the second was answered %d %s", a.status, a.body)
	}
	hold.open()
	<-first
}
