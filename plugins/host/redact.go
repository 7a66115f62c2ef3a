package host

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

const (
	masked   = "[secret]" // stands in a secret's place
	longLine = 16         // as long a line of a secret must be to be a secret by itself
	wordOnly = 4          // as long a secret must be to be one within a word
)

// Redactor takes secrets out of what a child says. The zero value takes out
// nothing.
//
// One of fewer than [wordOnly] bytes is in many words: a password "ehr" would have
// https://ehr.example.org read https://[secret].example.org. It is taken out only where
// it stands as a word of its own; see [apart].
type Redactor struct {
	hidden atomic.Pointer[hidden]
}

// hidden is what a redactor takes out. It does not change.
type hidden struct {
	forms    []string // of long secrets
	anywhere *strings.Replacer
	words    []string // forms of short secrets, the longest first
}

// Hide makes the redactor take out the secrets from now on, as they are and as
// they are commonly encoded.
func (r *Redactor) Hide(secrets ...string) {
	anywhere, words := map[string]bool{}, map[string]bool{}
	for _, s := range secrets {
		if s == "" {
			continue
		}
		forms := anywhere
		if len(s) < wordOnly {
			forms = words
		}
		for _, form := range []string{
			s, inJSON(s, true), inJSON(s, false), url.QueryEscape(s), url.PathEscape(s),
			strings.TrimPrefix(url.UserPassword("", s).String(), ":"),
			// Without padding: with it, it is found too.
			base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
		} {
			forms[form] = true
		}
		// A log has lines, and a key of many of them is seen by the line.
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= longLine && !strings.HasPrefix(line, "-----") {
				forms[line] = true
			}
		}
	}
	forms := longestFirst(anywhere)
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, masked)
	}
	r.hidden.Store(&hidden{forms: forms, anywhere: strings.NewReplacer(pairs...), words: longestFirst(words)})
}

// longestFirst is the order to look in: the first that fits is taken out, and a secret
// that begins another must not leave the other's end behind.
func longestFirst(forms map[string]bool) []string {
	return slices.SortedFunc(maps.Keys(forms), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
}

// inJSON is s between the quotes of JSON, as encoding/json writes it or, without html,
// log/slog.
func inJSON(s string, html bool) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(html)
	_ = enc.Encode(s) // a string can always be written
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// String returns s without the secrets.
func (r *Redactor) String(s string) string {
	h := r.hidden.Load()
	if h == nil {
		return s
	}
	// Each receipt comes here, and the replacer makes a copy of it in any case.
	if slices.ContainsFunc(h.forms, func(form string) bool { return strings.Contains(s, form) }) {
		s = h.anywhere.Replace(s)
	}
	if len(h.words) > 0 {
		s = withoutWords(s, h.words)
	}
	return s
}

func withoutWords(s string, words []string) string {
	var b strings.Builder
	done := 0 // b has what comes of s before it
	for i := 0; i < len(s); {
		n := 0
		for _, word := range words {
			if strings.HasPrefix(s[i:], word) && apart(s[:i], s[i+len(word):]) {
				n = len(word)
				break
			}
		}
		if n == 0 {
			i++
			continue
		}
		b.WriteString(s[done:i] + masked)
		i += n
		done = i
	}
	return b.String() + s[done:]
}

// apart tells whether what is between the two texts is a word of its own: no letter or
// digit is beside it, nor a joint with one behind it, as in a host name. The end of an
// escape, of JSON or a URL, is no letter.
func apart(before, after string) bool {
	next, n := utf8.DecodeRuneInString(after)
	beyond, _ := utf8.DecodeRuneInString(after[n:])
	if joined(next, beyond) {
		return false
	}
	if escaped.MatchString(before[max(0, len(before)-len(`\u0000`)):]) {
		return true
	}
	next, n = utf8.DecodeLastRuneInString(before)
	beyond, _ = utf8.DecodeLastRuneInString(before[:len(before)-n])
	return !joined(next, beyond)
}

var escaped = regexp.MustCompile(`(\\[bfnrt]|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2})$`)

func joined(next, beyond rune) bool {
	letter := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	return letter(next) || strings.ContainsRune(".-_", next) && letter(beyond)
}

// Error returns err itself if it holds no secret, else an error of the same text
// without them.
func (r *Redactor) Error(err error) error {
	if clean := r.String(err.Error()); clean != err.Error() {
		return errors.New(clean)
	}
	return err
}
