package config

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Masked stands in a text in the place of a secret.
const Masked = "(masked)"

var (
	// secretKey are keys, of any table, that are named after a secret.
	secretKey = regexp.MustCompile(`(?i)passw|passphrase|secret|token|credential|api.?key|access.?key\b|private|authori[sz]ation|cookie|signature|^(pwd|pin|auth|key)$`)
	// userInfo is what a URL holds before its host: up to the last @, as url.Parse reads
	// it, which takes quotes and further ones in a password.
	userInfo = regexp.MustCompile(`(://)[^/?#\s]*@`)
	// secretQuery are the parameters of a URL, or of a command, that are named so.
	secretQuery = regexp.MustCompile(`(?i)((?:passw[a-z]*|passphrase|pwd|secret|token|credential|api[-_]?key|key|auth|sig(?:nature)?)=)[^&\s]+`)
	// assignment is a key that was commented out with its value.
	assignment = regexp.MustCompile(`=\s*\S`)
)

// openSettings are those of a plugin that say where and how, and hold no secret
// beside what a URL can.
var openSettings = []string{
	"url", "method", "username", "host", "port", "dial_timeout", "idle_timeout", "timeout", "deny_addresses",
	"ca_file", "cert_file", "key_file", "min_version", "server_name", "path", "dir", "folder", "format", "topic", "database", "table",
	"max_idle", "max_reply",
}

// MaskSecrets is a configuration's text without the secrets that are written in
// it; references to secrets stay. Which settings of a plugin are secrets only the
// plugin knows, and it may be gone: there all text is masked that is not known to
// be open. A text that is not TOML is masked as a whole.
func MaskSecrets(source []byte) []byte {
	m := masker{data: source}
	var parser unstable.Parser
	parser.KeepComments = true
	parser.Reset(source)
	m.parser = &parser
	var table path
	for parser.NextExpression() {
		switch e := parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = m.key(nil, e.Key())
			m.comments(e)
		case unstable.KeyValue:
			m.value(m.key(table, e.Key()), e.Value())
			m.comments(e)
		case unstable.Comment:
			m.comment(e)
		}
	}
	if parser.Error() != nil {
		return []byte("# " + Masked + ": this is not TOML\n")
	}
	slices.SortFunc(m.cuts, func(a, b cut) int { return a.from - b.from })
	var out bytes.Buffer
	at := 0
	for _, c := range m.cuts {
		if c.from < at {
			continue
		}
		out.Write(source[at:c.from])
		out.WriteString(c.text)
		at = c.to
	}
	out.Write(source[at:])
	return out.Bytes()
}

// cut is a part of the text and what stands in its place.
type cut struct {
	from, to int
	text     string
}

type masker struct {
	data   []byte
	parser *unstable.Parser
	cuts   []cut
}

func (m *masker) key(parent path, keys unstable.Iterator) path {
	p := slices.Clip(parent)
	for keys.Next() {
		p = p.at(string(keys.Node().Data))
	}
	return p
}

func (m *masker) value(p path, node *unstable.Node) {
	switch node.Kind {
	case unstable.InlineTable:
		for it := node.Children(); it.Next(); {
			if kv := it.Node(); kv.Kind == unstable.KeyValue {
				m.value(m.key(p, kv.Key()), kv.Value())
			} else if kv.Kind == unstable.Comment {
				m.comment(kv)
			}
		}
	case unstable.Array:
		for it := node.Children(); it.Next(); {
			if item := it.Node(); item.Kind == unstable.Comment {
				m.comment(item)
			} else {
				m.value(p, item)
			}
		}
	case unstable.String:
		from := int(node.Raw.Offset)
		to := from + int(node.Raw.Length)
		s := string(node.Data)
		switch masked := maskURL(s); {
		case s == "" || isReference(s):
		case secret(p):
			m.cuts = append(m.cuts, cut{from, to, `"` + Masked + `"`})
		case masked != s:
			text := `"` + Masked + `"` // if it is written with escapes
			raw := string(m.data[from:to])
			quotes := raw[:len(raw)-len(strings.TrimLeft(raw, raw[:1]))]
			if inner := strings.TrimSuffix(raw[len(quotes):], quotes); maskURL(inner) != inner {
				text = quotes + maskURL(inner) + quotes
			}
			m.cuts = append(m.cuts, cut{from, to, text})
		}
	case unstable.Integer, unstable.Float:
		if secret(p) {
			from := int(node.Raw.Offset)
			m.cuts = append(m.cuts, cut{from, from + int(node.Raw.Length), `"` + Masked + `"`})
		}
	}
}

func maskURL(s string) string {
	return secretQuery.ReplaceAllString(userInfo.ReplaceAllString(s, "${1}"+Masked+"@"), "${1}"+Masked)
}

// secret tells whether text under the key may be one.
func secret(p path) bool {
	if len(p) > 2 && p[0] == "transports" && p[2] == "settings" {
		return !openKey(p)
	}
	if len(p) > 2 && p[0] == "telemetry" && p[1] == "headers" {
		return true // each vendor's key has its own name
	}
	return slices.ContainsFunc(p[1:], func(key string) bool { return secretKey.MatchString(key) })
}

// openKey tells whether a plugin's setting is known to be no secret: each of the
// tables that it is in as well.
func openKey(p path) bool {
	for i, key := range p[min(3, len(p)):] {
		if i == 0 && key == "tls" && len(p) > 4 {
			continue
		}
		if !slices.Contains(openSettings, key) {
			return false
		}
	}
	return true
}

// comments masks the comments behind an expression.
func (m *masker) comments(e *unstable.Node) {
	for n := e.Next(); n != nil; n = n.Next() {
		if n.Kind == unstable.Comment {
			m.comment(n)
		}
	}
}

// comment masks a comment that looks like a key with its value: nobody knows what
// it was.
func (m *masker) comment(node *unstable.Node) {
	from := int(node.Raw.Offset)
	to := from + int(node.Raw.Length)
	text := string(m.data[from:to])
	masked := maskURL(text)
	if key, value, ok := strings.Cut(text, "="); ok && assignment.MatchString(text) && secretKey.MatchString(strings.TrimLeft(key, "# \t")) &&
		!isReference(strings.Trim(value, ` "'`)) {
		masked = key + "= " + Masked
	} else if secretKey.MatchString(text) {
		masked = quoted.ReplaceAllStringFunc(masked, func(q string) string {
			if isReference(strings.Trim(q, `"'`)) {
				return q
			}
			return `"` + Masked + `"`
		})
	}
	if masked != text {
		m.cuts = append(m.cuts, cut{from, to, masked})
	}
}

var quoted = regexp.MustCompile(`"[^"]*"|'[^']*'`)
