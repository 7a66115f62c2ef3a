package sql_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hookline/hookline/plugins/sql"
	"github.com/hookline/hookline/plugins/transport"
)

func TestStatement(t *testing.T) {
	for _, c := range []struct{ dialect, in, text, sources string }{
		{"postgres", "insert into t values (:id, :payload::jsonb, :id)", "insert into t values ($1, $2::jsonb, $3)", "id payload id"},
		{"mariadb", "insert into t values (:id, :payload)", "insert into t values (?, ?)", "id payload"},
		{"postgres", "select ':id', \":id\", E'\\':id', $$:id$$, $a$:id$$ $a$, -- :id\n/* :id /* */ :id */ :key;", "select ':id', \":id\", E'\\':id', $$:id$$, $a$:id$$ $a$, -- :id\n/* :id /* */ :id */ $1", "key"},
		{"postgres", "select '\\', :id, '''', :key", "select '\\', $1, '''', $2", "id key"},
		{"mariadb", "select '\\':id', \":id\", `:id`, # :id\n-- :id\n/* :id /* */ :key --:id", "select '\\':id', \":id\", `:id`, # :id\n-- :id\n/* :id /* */ ? --?", "key id"},
		{"postgres", "update t set a[1:2] = null, b = :/new/a~1b/0, c=:\"/form name/x-y\"where d = :/x-1", "update t set a[1:2] = null, b = $1, c=$2where d = $3-1", "/new|a/b|0 /form name|x-y /x"},
		{"postgres", "  /* why */ WITH x as (select :hook) select a ? 'b' from x ; \n", "/* why */ WITH x as (select $1) select a ? 'b' from x", "hook"},
		{"mariadb", "call take(:received_at, @a := 1)", "call take(?, @a := 1)", "received_at"},
		{"postgres", "select a$b$, :id, e'x' from c$", "select a$b$, $1, e'x' from c$", "id"},
		{"postgres", "select 'ü' || :kind", "select 'ü' || $1", "kind"},
	} {
		text, sources, err := sql.Spell(c.dialect, c.in)
		if err != nil || sources != c.sources || strings.TrimRight(text, "; \n") != c.text && !strings.Contains(text, "; ") {
			t.Errorf("%s %q:\n%q, %q, %v\nwant %q, %q", c.dialect, c.in, text, sources, err, c.text, c.sources)
		}
	}
	for in, want := range map[string]string{
		"insert into t values (:secret)":    "has at character 23 a parameter that must be a parameter such as",
		"insert into ü values (:ids)":       "has at character 23 ",
		"select ':id":                       "has at character 8 a quote that is not closed",
		"select $a$ :id":                    "has at character 8 a quote",
		"select :\"/a":                      "has at character 8 a quote",
		"select :\"id\"":                    "has at character 8 a parameter in quotes that is no JSON pointer",
		"select :/a~2":                      "neither ~0",
		"/* /* */ select 1":                 "has at character 1 a comment that is not closed",
		"select $1":                         "has at character 8 a placeholder",
		"delete from t; drop table t":       "has at character 16 another statement",
		"drop table secret":                 "must begin with one of insert",
		"commit":                            "must begin with one of",
		"":                                  "must begin with one of",
		"set session authorization 'other'": "must begin with one of",
	} {
		_, _, err := sql.Spell("postgres", in)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v; want %q", in, err, want)
		}
	}
	if _, _, err := sql.Spell("mariadb", "insert into t values (?, :id)"); err == nil {
		t.Error("a placeholder of MariaDB is taken")
	}
}

func TestValues(t *testing.T) {
	m := message("msg_1")
	m.Headers = map[string]string{"x-site": "042"}
	for parameter, want := range map[string]any{
		":id": "msg_1", ":event_id": m.EventID, ":delivery_id": "d1", ":attempt": "1", ":hook": "demo", ":route": "ehr",
		":study": nil, ":stage": "uat", ":lane": m.Lane, ":kind": "insert", ":received_at": m.ReceivedAt,
		":traceparent": nil, ":content_type": "application/json", ":key": nil, ":path": nil,
		":headers": `{"x-site":"042"}`, ":payload": []byte(payloadText),
		":/trans_id": "435", ":/n": "7", ":/ok": true, ":/none": nil, ":/nowhere": nil, ":/": nil,
		":/new/a~1b/0": "1", ":/new/a~1b/1/x": "deep", ":/new/a~1b/1": `{"x":"deep"}`, ":/new/a~1b/2": nil,
		":/new/a~1b/01": nil, ":/new/a~1b/-1": nil, ":/n/x": nil, ":/trans_id/0": nil,
	} {
		if got, err := sql.Value(parameter, m); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, %v; want %#v", parameter, got, err, want)
		}
	}
	for name := range sql.Parameters {
		if _, err := sql.Value(":"+name, &transport.Message{ReceivedAt: time.Now()}); err != nil {
			t.Errorf(":%s of an empty message: %v", name, err)
		}
	}
	m.Payload = append([]byte("\xef\xbb\xbf"), m.Payload...)
	if got, err := sql.Value(":/trans_id", m); got != "435" || err != nil {
		t.Errorf("after a byte order mark: %v, %v", got, err)
	}
	for _, payload := range []string{"", " ", "MSH|secret", `{"a":1} {}`} {
		m.Payload = []byte(payload)
		if got, err := sql.Value(":/a", m); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", payload, got, err)
		}
	}
}

// What strangers send goes through a pointer, and never panics.
func FuzzPointer(f *testing.F) {
	f.Add([]byte(payloadText), ":/new/a~1b/1/x")
	f.Add([]byte(`[ [ ] , "\ud800" , 1e999 ]`), ":/1")
	f.Add([]byte(`"x"`), ":/")
	f.Fuzz(func(t *testing.T, payload []byte, pointer string) {
		v, err := sql.Value(pointer, &transport.Message{Payload: payload})
		if s, ok := v.(string); err == nil && ok && strings.HasPrefix(pointer, ":/") && s == "" && len(payload) < 2 {
			t.Errorf("%q at %q", payload, pointer)
		}
	})
}

// A statement is read to its end or refused, and has as many places as parameters.
func FuzzStatement(f *testing.F) {
	f.Add("insert into t values (:id, ':x', $$ $$, /* */ -- \n :/a)")
	f.Add("select E'\\', `a`, \"b\", :\"/x\"")
	f.Fuzz(func(t *testing.T, text string) {
		if _, sources, err := sql.Spell("mariadb", text); err == nil && sources != "" && !strings.Contains(text, ":") {
			t.Errorf("%q has %q", text, sources)
		}
		if spelled, sources, err := sql.Spell("postgres", text); err == nil && sources == "" && len(spelled) > len(text) {
			t.Errorf("%q became %q", text, spelled)
		}
	})
}
