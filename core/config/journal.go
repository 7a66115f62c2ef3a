package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"
)

const (
	journalNone   = "none"
	journalMemory = "memory:"
	journalFile   = "hookline.db" // beside the configuration
	maxNode       = 100
	maxLine       = 4096 // of the file, when it is read line by line
)

// Journal says where the durable record is kept.
type Journal struct {
	// URL is "sqlite:" and an absolute path, a postgres:// URL, "none", "memory:",
	// or a reference to one of the first two. [Config.JournalURL] resolves it.
	URL     string
	MinFree int64  // bytes free on SQLite's disk below which it is warned of; 0 does not look
	Node    string // the label of this daemon, "" for the host's name
}

// None tells whether there is no journal.
func (j Journal) None() bool { return j.URL == journalNone }

func (j *Journal) fields() fields {
	return fields{
		"url":      journalURL(&j.URL),
		"min_free": size(&j.MinFree, 0, maxMinFree),
		"node":     node(&j.Node),
	}
}

// JournalURL is the journal's URL with its reference resolved, anew each time.
// The error never holds what the reference stands for.
func (c *Config) JournalURL() (string, error) {
	url, err := c.resolveJournal()
	if err != nil {
		return "", fmt.Errorf("journal.url: %w", err)
	}
	return url, nil
}

func (c *Config) resolveJournal() (string, error) {
	ref := c.Journal.URL
	if !isReference(ref) {
		return ref, nil
	}
	value, err := c.Resolve(ref)
	if err != nil {
		return "", err
	}
	return resolvedJournal(ref, value, c.Dir)
}

// resolvedJournal checks what a reference stands for. Whether there is a journal
// decides which keys are valid, so that is not to be hidden behind a reference.
func resolvedJournal(ref, value, dir string) (string, error) {
	if value == journalNone || value == journalMemory {
		return "", fmt.Errorf("%s stands for %s, which must be written in its place", quote(ref), quote(value))
	}
	url, err := parseJournal(value, dir)
	if err != nil {
		return "", fmt.Errorf("%s stands for what %w", quote(ref), err)
	}
	return url, nil
}

const journalForms = `write "sqlite:PATH", "postgres://...", or "none" to do without a journal`

// parseJournal makes a URL absolute. Its errors complete the sentence "journal.url
// ..." and hold nothing of s: a URL that is slightly wrong still has its password.
func parseJournal(s, dir string) (string, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch {
	case s == journalNone, s == journalMemory:
		return s, nil
	case s == "":
		return "", fmt.Errorf("must not be empty: %s", journalForms)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", fmt.Errorf("must be one line, without control characters: %s", journalForms)
	case strings.HasPrefix(s, "postgres://"), strings.HasPrefix(s, "postgresql://"):
		if strings.TrimPrefix(rest, "//") == "" || strings.Contains(s, " ") {
			return "", errors.New(`is not a complete URL: write "postgres://USER:PASSWORD@HOST:PORT/DATABASE", and a space as %20`)
		}
		return s, nil
	case scheme == "sqlite":
		return parseSQLite(rest, dir)
	}
	return "", fmt.Errorf("does not name a journal: %s", journalForms)
}

func parseSQLite(path, dir string) (string, error) {
	if after, double := strings.CutPrefix(path, "//"); double {
		if !strings.HasPrefix(after, "/") {
			return "", errors.New(`is ambiguous: write "sqlite:///path", or "sqlite:path" for one relative to the file`)
		}
		path = after
	}
	switch {
	case path == ":memory:":
		return "", errors.New(`must name a file: for a test without one, write "memory:"`)
	case path == "" || strings.HasSuffix(path, "/"):
		return "", errors.New(`must name a file: write "sqlite:PATH", such as "sqlite:hookline.db"`)
	case strings.ContainsAny(path, "?#"):
		return "", errors.New(`must be a plain path after "sqlite:", without ? and #: Hookline sets SQLite's parameters itself`)
	}
	return "sqlite:" + abs(dir, path), nil
}

// journalURL leaves a reference for [Config.JournalURL]; check looks behind it.
func journalURL(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		url := s
		if !isReference(s) {
			var err error
			if url, err = parseJournal(s, d.dir); err != nil {
				d.fail(p, "%s", err)
				return
			}
		}
		*out = url
	}
}

// node is checked as a label is, but "" is the host's name.
func node(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		switch {
		case !ok:
		case !validNode(s):
			d.fail(p, "must be one line of at most %d bytes; leave it out for the host's name", maxNode)
		default:
			*out = s
		}
	}
}

func validNode(s string) bool {
	return len(s) <= maxNode && (s == "" || strings.TrimSpace(s) != "") && !strings.ContainsFunc(s, unicode.IsControl)
}

func (d *decoder) checkJournal(c *Config) {
	at := path{"journal", "url"}
	if !d.from.written(at) {
		c.Journal.URL = "sqlite:" + abs(d.dir, journalFile)
	}
	url, err := c.resolveJournal()
	if err != nil {
		d.fail(at, "%s", err)
		return
	}
	switch file, sqlite := strings.CutPrefix(url, "sqlite:"); {
	case c.Journal.None():
		d.warn(at, "is none, so nothing is kept: an event that cannot be delivered within its hook's timeout is answered with an error and not tried again")
	case url == journalMemory:
		d.warn(at, "is memory:, which is for tests: everything that is in the journal is lost when Hookline ends")
	case sqlite && d.from.written(at) && url == c.Journal.URL:
		// The default lies beside the file, in a folder that is there; where a
		// reference leads to is not for messages.
		d.checkSQLite(at, file)
	case url == c.Journal.URL && d.from.inFile(at) && holdsPassword(url):
		d.warn(at, "holds a password that everyone who may read the file sees: put the URL into env:NAME or file:PATH")
	}
}

func (d *decoder) checkSQLite(p path, file string) {
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		d.fail(p, "%s is a folder; name a file in it", quote(file))
		return
	}
	folder := filepath.Dir(file)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		d.fail(p, "there is no folder %s to keep the journal in: make it, or name another; a relative path is relative to the configuration file", quote(folder))
	}
}

// holdsPassword tells whether a postgres URL has a password in it. It is a guess
// that needs no valid URL, and is on the safe side.
func holdsPassword(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	user := ""
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user = rest[:at]
	}
	return strings.Contains(user, ":") || strings.Contains(rest, "password=")
}

// checkUnkept refuses the keys that promise what only a journal can keep.
func (d *decoder) checkUnkept(c *Config) {
	if !c.Journal.None() {
		return
	}
	refuse := func(p path, wrong bool, now string) {
		if wrong && d.from.mentions(p) {
			d.fail(p, "needs the journal, and journal.url is none: %s", now)
		}
	}
	for _, h := range c.Hooks {
		at := path{"hooks", h.Name}
		refuse(at.at("accepted_status"), true, "nothing is accepted to be delivered later. Remove it, or set journal.url")
		refuse(at.at("retention"), true, "nothing is kept. Remove it, or set journal.url")
		refuse(at.at("dedup"), true, "no caller's id is remembered. Remove it, or set journal.url")
		if loop := at.at("loop_limit"); d.from.written(loop) && h.LoopLimit > 0 {
			d.warn(loop, "has no effect without the journal, and journal.url is none: an event cannot be queued")
		}
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		at := path{"routes", r.Name}
		refuse(at.at("mode"), r.Async, `nothing is delivered in the background. Write "sync", or set journal.url`)
		refuse(at.at("on_timeout"), r.AcceptOnTimeout, `nothing goes on after the answer. Write "fail", or set journal.url`)
		refuse(at.at("on_unknown"), true, "what was sent without an answer is reported to the caller and not sent again. Remove it, or set journal.url")
		refuse(at.at("on_dead"), r.HoldDead, `a record's later events cannot be held. Write "continue", or set journal.url`)
		refuse(at.at("on_failure"), !r.StopOnFailure, `nothing is tried again after the answer. Write "stop", or set journal.url`)
		refuse(at.at("on_blocked"), true, "no event waits behind another. Remove it, or set journal.url")
		refuse(at.at("retry"), true, "beside one retry within 2 seconds, nothing is sent again. Remove it, or set journal.url")
		r.StopOnFailure = true
	}
}

// FindJournal finds the journal for a start with a configuration that [Load]
// refuses: the last set that was accepted is in there. It looks where Load does,
// at as much of the file as can be read, and never fails: url is then the default
// beside the file. References are resolved. node is "" for the host's name.
func FindJournal(path string, overrides map[string]string, environ []string) (url, node string) {
	dir := folderOf(path)
	vars := environment(environ)
	c := &Config{Dir: dir, environ: vars}
	found := find(path, overrides, vars, "journal", "url", "node")
	if s, ok := found["node"].(string); ok && validNode(s) {
		node = s
	}
	url = "sqlite:" + abs(dir, journalFile)
	s, ok := found["url"].(string)
	if !ok {
		return url, node
	}
	if c.Journal.URL = s; !isReference(s) {
		parsed, err := parseJournal(s, dir)
		if err != nil {
			return url, node
		}
		c.Journal.URL = parsed
	}
	if resolved, err := c.resolveJournal(); err == nil {
		url = resolved
	}
	return url, node
}

// FindAdmin finds the admin socket of a daemon whose configuration [Load] refuses
// here and now, as FindJournal does: its secrets may be in the daemon's environment
// only. The default is beside the file; "off", or TCP alone, gives it too.
func FindAdmin(path string, overrides map[string]string, environ []string) (socket string) {
	dir := folderOf(path)
	var items []string
	switch v := find(path, overrides, environment(environ), "admin", "listen")["listen"].(type) {
	case string:
		items = split(v) // of the environment it may be a list
	case []any:
		for _, item := range v {
			s, _ := item.(string)
			items = append(items, s)
		}
	}
	for _, s := range items {
		if a, err := parseAddress(s, dir); err == nil && a.Network == "unix" {
			return a.Address
		}
	}
	return abs(dir, strings.TrimPrefix(defaultAdmin, "unix:"))
}

func folderOf(path string) string {
	dir := filepath.Dir(path)
	if full, err := filepath.Abs(dir); err == nil {
		return full
	}
	return dir
}

// find reads keys of a section from all layers, as far as they can be read.
func find(path string, overrides, vars map[string]string, section string, keys ...string) map[string]any {
	data, _ := readLimited(path, maxFile) // without it, there still is the environment
	found := scan(path, data, section, keys...)
	known, _ := variables(vars)
	for _, v := range known {
		if len(v.path) == 2 && v.path[0] == section {
			found[v.path[1]] = vars[v.name]
		}
	}
	for _, key := range keys {
		if value, ok := overrides[section+"."+key]; ok {
			found[key] = value
		}
	}
	return found
}

// scan reads the file's table, line by line if it is not TOML.
func scan(name string, data []byte, section string, keys ...string) map[string]any {
	if tree, _, _ := layers(name, data, nil, nil); tree != nil {
		if table, ok := tree[section].(map[string]any); ok {
			return table
		}
		return map[string]any{}
	}
	found := map[string]any{}
	wanted := regexp.MustCompile(`^\s*"?(?:` + strings.Join(append(keys, section), "|") + `)\b`)
	table := ""
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\xef\xbb\xbf")) {
		line = strings.TrimRight(line, "\r\n")
		if m := tableHeader.FindStringSubmatch(line); m != nil {
			table = m[1]
			continue
		}
		if table != "" && table != section || len(line) > maxLine || !wanted.MatchString(line) {
			continue
		}
		// A line by itself is TOML again, with its quotes, escapes and comment.
		var one map[string]any
		if toml.Unmarshal([]byte(line), &one) != nil {
			continue
		}
		if table == "" {
			one, _ = one[section].(map[string]any)
		}
		for key, value := range one {
			if _, twice := found[key]; !twice {
				found[key] = value
			}
		}
	}
	return found
}

var tableHeader = regexp.MustCompile(`^\s*\[+\s*"?([^\[\]"]*?)"?\s*\]+\s*(?:#.*)?$`)
