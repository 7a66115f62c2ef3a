package sql

import (
	"fmt"
	"slices"
	"strings"
)

// verbs are what a statement may begin with: others are not data, or would end the
// transaction.
var verbs = []string{"insert", "update", "delete", "replace", "merge", "with", "select", "call"}

// parser reads a statement. It does not know SQL, only where a parameter is none: in
// strings, quoted names and comments.
type parser struct {
	text    string
	at      int
	dialect string
	out     strings.Builder
	st      statement
}

// parseStatement finds the parameters of a statement. An error says where, and not what.
func parseStatement(text, dialect string) (*statement, error) {
	p := &parser{text: text, dialect: dialect}
	verb, ended := "", false
	for p.at < len(p.text) {
		start := p.at
		skipped, err := p.skip()
		if err != nil {
			return nil, err
		}
		if skipped {
			p.out.WriteString(p.text[start:p.at])
			continue
		}
		c := p.text[p.at]
		if ended && !isSpace(c) {
			return nil, p.wrong("another statement; only one is run")
		}
		switch {
		case c == ':':
			err = p.parameter()
		case c == ';':
			ended = true
			p.at++
		case c == '?' && p.dialect == mariaDB, c == '$' && p.dialect != mariaDB && isDigit(p.peek(1)):
			err = p.wrong("a placeholder; use a parameter such as :id")
		case isLetter(c):
			for p.at < len(p.text) && (isLetter(p.text[p.at]) || isDigit(p.text[p.at]) || p.text[p.at] == '$') {
				p.at++
			}
			word := p.text[start:p.at]
			p.out.WriteString(word)
			if verb == "" {
				verb = strings.ToLower(word)
			}
		default:
			p.out.WriteByte(c)
			p.at++
		}
		if err != nil {
			return nil, err
		}
	}
	if !slices.Contains(verbs, verb) {
		return nil, fmt.Errorf("must begin with one of %s", strings.Join(verbs, ", "))
	}
	p.st.text = strings.TrimSpace(p.out.String())
	p.st.verb = verb
	p.st.commits = verb == "call" && dialect == mariaDB
	return &p.st, nil
}

func (p *parser) wrong(what string) error {
	return fmt.Errorf("has at character %d %s", len([]rune(p.text[:p.at]))+1, what)
}

func (p *parser) peek(n int) byte {
	if p.at+n < len(p.text) {
		return p.text[p.at+n]
	}
	return 0
}

// parameter replaces ":name", ":/pointer" or `:"/any pointer"` by a place.
func (p *parser) parameter() error {
	next := p.peek(1)
	if next == ':' || next == '=' { // a cast, an assignment
		p.out.WriteString(p.text[p.at : p.at+2])
		p.at += 2
		return nil
	}
	from, end := p.at+1, p.at+1
	switch {
	case next == '"':
		length := strings.IndexByte(p.text[from+1:], '"')
		if length < 0 {
			return p.wrong("a quote that is not closed")
		}
		from, end = from+1, from+1+length
		if !strings.HasPrefix(p.text[from:end], "/") {
			return p.wrong(`a parameter in quotes that is no JSON pointer such as :"/a b"`)
		}
	case next == '/' || isLetter(next):
		for end < len(p.text) && (isLetter(p.text[end]) || isDigit(p.text[end]) || next == '/' && (p.text[end] == '/' || p.text[end] == '~')) {
			end++
		}
	default: // an array's slice, in PostgreSQL
		p.out.WriteByte(':')
		p.at++
		return nil
	}
	src, err := parseSource(":" + p.text[from:end])
	if err != nil {
		return p.wrong("a parameter that " + err.Error())
	}
	p.st.sources = append(p.st.sources, src)
	p.out.WriteString(place(p.dialect, len(p.st.sources)))
	if p.at = end; next == '"' {
		p.at++
	}
	return nil
}

// skip goes beyond a string, a quoted name or a comment, if one begins here.
func (p *parser) skip() (skipped bool, err error) {
	rest := p.text[p.at:]
	maria := p.dialect == mariaDB
	switch {
	case rest[0] == '\'' || rest[0] == '"':
		escapes := maria || rest[0] == '\'' && p.escapeString()
		return true, p.quoted(rest[0], escapes)
	case rest[0] == '`' && maria:
		return true, p.quoted('`', false)
	case strings.HasPrefix(rest, "--") && (!maria || len(rest) == 2 || isSpace(rest[2])), rest[0] == '#' && maria:
		if end := strings.IndexByte(rest, '\n'); end >= 0 {
			p.at += end + 1
		} else {
			p.at = len(p.text)
		}
		return true, nil
	case strings.HasPrefix(rest, "/*"):
		return true, p.comment()
	case rest[0] == '$' && !maria && !p.afterWord():
		tag := strings.IndexByte(rest[1:], '$')
		if tag < 0 || strings.ContainsFunc(rest[1:tag+1], func(r rune) bool { return r < 0x80 && !isLetter(byte(r)) && !isDigit(byte(r)) }) || isDigit(rest[1]) {
			return false, nil
		}
		quote := rest[:tag+2]
		end := strings.Index(rest[len(quote):], quote)
		if end < 0 {
			return true, p.wrong("a quote that is not closed")
		}
		p.at += end + 2*len(quote)
		return true, nil
	}
	return false, nil
}

// quoted goes beyond the closing quote. A doubled one is as good as two strings.
func (p *parser) quoted(quote byte, escapes bool) error {
	for i := p.at + 1; i < len(p.text); i++ {
		switch {
		case escapes && p.text[i] == '\\':
			i++
		case p.text[i] == quote:
			p.at = i + 1
			return nil
		}
	}
	return p.wrong("a quote that is not closed")
}

// comment goes beyond a comment; PostgreSQL's may hold others.
func (p *parser) comment() error {
	depth := 0
	for i := p.at; i < len(p.text); i++ {
		switch rest := p.text[i:]; {
		case strings.HasPrefix(rest, "/*") && (depth == 0 || p.dialect != mariaDB):
			depth++
			i++
		case strings.HasPrefix(rest, "*/"):
			i++
			if depth--; depth == 0 {
				p.at = i + 1
				return nil
			}
		}
	}
	return p.wrong("a comment that is not closed")
}

// escapeString tells whether the quote here opens an E'...' string.
func (p *parser) escapeString() bool {
	if p.at == 0 || p.text[p.at-1]|0x20 != 'e' {
		return false
	}
	return p.at == 1 || !isLetter(p.text[p.at-2]) && !isDigit(p.text[p.at-2])
}

// afterWord tells whether what stands here continues a name.
func (p *parser) afterWord() bool {
	return p.at > 0 && (isLetter(p.text[p.at-1]) || isDigit(p.text[p.at-1]))
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isLetter takes what is not ASCII for a letter, as SQL does.
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c >= 0x80 }
