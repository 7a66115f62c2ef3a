package host

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

// A secret is taken out as programs write it: in a URL, in JSON, encoded, and a key of
// several lines by the line.
func TestRedactorKnowsTheForms(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAtwzX\nzV9nbZ7hG0r4pNQd8m\n-----END PRIVATE KEY-----\n"
	for _, secret := range []string{`p@ss;w$rd`, `a"b<c&d`, `ends with "`, "plain-secret", key} {
		r := &Redactor{}
		r.Hide(secret)
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Error(secret)
		marshalled, _ := json.Marshal(secret)
		for form, text := range map[string]string{
			"as it is":       secret,
			"in a URL":       (&url.URL{Scheme: "nats", Host: "h", User: url.UserPassword("u", secret)}).String(),
			"in a query":     url.Values{"a": {secret}}.Encode(),
			"by slog":        log.String(),
			"by json":        string(marshalled),
			"base64":         base64.StdEncoding.EncodeToString([]byte(secret)),
			"base64 for URL": base64.RawURLEncoding.EncodeToString([]byte(secret)),
		} {
			if clean := r.String(text); !strings.Contains(clean, "[secret]") || len(secret) > 40 && strings.Contains(clean, "AtwzX") {
				t.Errorf("%q %s: %s", secret, form, clean)
			}
		}
	}
	r := &Redactor{}
	r.Hide(key)
	for line := range strings.Lines(key) {
		if clean := r.String(line); clean == line && !strings.HasPrefix(line, "-----") {
			t.Errorf("a line of a key is shown: %s", line)
		}
	}
}

// A secret of three bytes or fewer leaves the words alone that it is a part of, host names
// above all; a longer one is taken out wherever it is.
func TestRedactorOfShortSecrets(t *testing.T) {
	for _, c := range []struct{ secret, text, want string }{
		{"ehr", "lookup ehr.example.org: no such host", ""},
		{"ehr", "POST https://ehr.example.org/in: 503", ""},
		{"ehr", "dial tcp my.ehr:443, ehr-2.local, old_ehr, ehr2, Nehru, ehré, éehr", ""},
		{"ehr", "ehr", "[secret]"},
		{"ehr", `"password":"ehr"`, `"password":"[secret]"`},
		{"ehr", "amqp://ehr:ehr@ehr.example.org/", "amqp://[secret]:[secret]@ehr.example.org/"},
		{"ehr", "a=1&token=ehr&b=2 ehr, (ehr) 'ehr'", "a=1&token=[secret]&b=2 [secret], ([secret]) '[secret]'"},
		{"ehr", "wrong password ehr.", "wrong password [secret]."},
		{"ehr", "ehr... -ehr- --password=ehr", "[secret]... -[secret]- --password=[secret]"},
		{"ehr", `"user:\nehr\n" \u003cehr\u003e ehr\tx`, `"user:\n[secret]\n" \u003c[secret]\u003e [secret]\tx`},
		{"ehr", "u%3Aehr%40h", "u%3A[secret]%40h"},
		{"ehr", "basic ZWhy, ZWhyZWhy", "basic [secret], ZWhyZWhy"},
		{"a/b", "p=a%2Fb p=a/b q=xa/by", "p=[secret] p=[secret] q=xa/by"},
		{"ü", "für ü", "für [secret]"},
		{"7", "10.0.0.7:7 attempt 17", "10.0.0.7:[secret] attempt 17"},
		{"abcd", "xabcdx abcd.example.org YWJjZA", "x[secret]x [secret].example.org [secret]"},
	} {
		r := &Redactor{}
		r.Hide(c.secret)
		if c.want == "" {
			c.want = c.text
		}
		if got := r.String(c.text); got != c.want {
			t.Errorf("%q of %s:\n got %s\nwant %s", c.secret, c.text, got, c.want)
		}
	}
	r := &Redactor{}
	r.Hide("ehr", "ehr-and-more", "ab")
	if got := r.String("ehr-and-more ehrehr-and-more ab"); got != "[secret] [secret][secret] [secret]" {
		t.Errorf("several: %s", got)
	}
}

// The line is cut behind the secret, not through it.
func TestRedactedBeforeItIsCut(t *testing.T) {
	var out strings.Builder
	w := &lineLogger{log: slog.New(slog.NewTextHandler(&out, nil)), redact: &Redactor{}}
	w.redact.Hide("hunter2-hunter2")
	_, _ = w.Write([]byte(strings.Repeat("x", maxLine-7) + "hunter2-hunter2\n"))
	if strings.Contains(out.String(), "hunter2") {
		t.Error("the log shows the first half of a secret")
	}
}

// What only Go takes for a number stays the text that it is, for the schema to refuse.
func TestNumbersOfTheEnvironment(t *testing.T) {
	schema := json.RawMessage(`{"type":"object","properties":{"port":{"type":"number"}}}`)
	for text, good := range map[string]bool{"7": true, "1e3": true, "-0.5": true, "NaN": false, "Inf": false, "0x10": false, "1_000": false, "+1": false} {
		settings, _ := json.Marshal(map[string]string{"port": text})
		_, _, err := ResolveSettings(schema, settings, func(s string) (string, error) { return s, nil })
		switch {
		case good && err != nil:
			t.Errorf("%s: %v", text, err)
		case !good && (err == nil || !strings.Contains(err.Error(), "port: must be a number")):
			t.Errorf("%s: %v", text, err)
		}
	}
}
