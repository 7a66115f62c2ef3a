package target_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

func TestHeaders(t *testing.T) {
	for in, good := range map[string]bool{
		"X-Site": true, "x_site.1": true, "": false, "X Site": false, "X-Site:": false, "X-Ünit": false, "X\nY": false,
	} {
		if err := target.HeaderName(in); (err == nil) != good {
			t.Errorf("the name %q: %v", in, err)
		}
	}
	for in, good := range map[string]bool{
		"": true, "a b": true, "a\tb": true, "Grüße": true, " a": false, "a\t": false, "a\r\nX-Other: b": false, "a\x00": false,
	} {
		err := target.HeaderValue("X-Site", in)
		if (err == nil) != good {
			t.Errorf("the value %q: %v", in, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "X-Site") || strings.Contains(err.Error(), "Other")) {
			t.Errorf("the value %q: the error must have the name, and nothing of the value: %v", in, err)
		}
	}
	m := &transport.Message{Headers: map[string]string{}}
	for n := range 65 {
		if err := target.HeaderCount(m); err != nil {
			t.Errorf("%d headers: %v", n, err)
		}
		m.Headers[fmt.Sprint("x", n)] = ""
	}
	if err := target.HeaderCount(m); err == nil || !strings.Contains(err.Error(), "65 headers; 64 are allowed") {
		t.Errorf("65 headers: %v", err)
	}
}
