package transforms_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestDocs runs the first example of docs/transforms.md.
func TestDocs(t *testing.T) {
	doc, err := os.ReadFile("../docs/transforms.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(lang string) string {
		_, rest, _ := strings.Cut(string(doc), "```"+lang+"\n")
		text, _, _ := strings.Cut(rest, "```")
		return strings.TrimSpace(text)
	}
	e := start(t, nil)
	tr := compile(t, e, block("js"), 5*time.Second)
	if got, want := payload(t, tr, update, delivery), block("json"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
