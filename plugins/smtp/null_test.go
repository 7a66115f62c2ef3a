package smtp

import (
	"encoding/json"
	"testing"
)

// A script's null is as if the key were not there, for lists as for texts.
func TestNullAddresses(t *testing.T) {
	var w written
	if err := json.Unmarshal([]byte(`{"subject":null,"to":null,"cc":"a@example.org","bcc":["b@example.org"]}`), &w); err != nil {
		t.Fatal(err)
	}
	if w.Subject != nil || w.To != nil || len(w.Cc) != 1 || len(w.Bcc) != 1 {
		t.Errorf("read as %+v", w)
	}
}
