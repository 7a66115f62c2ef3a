// Package config turns config.toml, the environment and the command line into a
// [Config]. Everything in a Config was checked: the rest of Hookline trusts it.
//
// Layers, each over the one before: defaults, the file, HOOKLINE__SECTION__KEY
// variables, command line flags. Nothing else in Hookline imports koanf or reads
// TOML.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hookline/hookline/core"
)

// Config is a checked configuration. Hooks, Transports and Routes stand in the
// order of the file, which is the order of routes; names that only the
// environment or the command line know come last, sorted.
type Config struct {
	Path     string   // the file, as it was named
	Dir      string   // absolute; what relative paths are relative to
	Revision string   // SHA-256 (hex) of what is in effect, references unresolved
	Warnings []string // works, but is probably not what was meant
	Source   []byte   // the file as it was read, with any secret that is written in it

	Server     Server
	Log        Log
	Admin      Admin
	Journal    Journal
	Telemetry  Telemetry
	Alerts     Alerts
	Transforms Transforms
	Hooks      []Hook
	Transports []Transport
	Routes     []Route

	environ map[string]string
	lookups map[string]string // digests of the lookup files, by name
	from    *origins
}

// Server is the socket that TrialKit calls.
type Server struct {
	Listen         []Address
	TrustedProxies []netip.Prefix
	MaxBody        int64 // bytes
	MaxInFlight    int
	HeaderTimeout  time.Duration
	BodyTimeout    time.Duration
	IdleTimeout    time.Duration
	DrainTimeout   time.Duration
	Watch          bool
	TLS            TLS
}

// TLS names the certificate of the TCP listeners; paths are absolute.
type TLS struct {
	CertFile string
	KeyFile  string
}

// Enabled tells whether the TCP listeners speak TLS.
func (t TLS) Enabled() bool { return t.CertFile != "" }

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level
	Format string // "auto", "text" or "json"
}

// Hook is an ingress that TrialKit calls.
type Hook struct {
	Name           string
	Study          string
	Stage          core.Stage
	Email          string
	Passwords      []string // references ([Config.Resolve]), bcrypt hashes or literals
	Anonymous      bool
	Timeout        time.Duration
	Reply          string        // a route that serves this hook, or ""
	UnmatchedError bool          // unmatched = "error"
	AcceptedStatus int           // 202 or 200
	LoopLimit      int           // events a minute of one record that are sent at once; 0: any number
	Dedup          time.Duration // how long a caller's own id of an event is remembered; 0: not at all
	Retention      Retention
	QuietAfter     time.Duration // without an event, and it is an alert; 0: never
	TrialKit       *TrialKit     `json:",omitempty"` // nil: nothing can be read from its API
}

// Transport is a configured instance of a transport plugin.
type Transport struct {
	Name     string
	Plugin   string          // a built-in plugin's name, or an absolute path
	SHA256   string          // of the executable, lower case hex, or ""
	Args     []string        // of the executable
	NoMTLS   bool            `json:",omitempty"` // the plugin cannot do AutoMTLS
	Attach   string          `json:",omitempty"` // path of the file of a plugin that somebody runs by hand, or ""
	Label    string          // what a site's user reads
	Settings json.RawMessage // an object; opaque, references unresolved

	Concurrency int     // attempts at a time
	Rate        float64 // attempts a second; 0: any number
	Circuit     Circuit
}

// Circuit says when a target that fails is left alone.
type Circuit struct {
	Failures int           // in a row; 0: never
	Pause    time.Duration // until one attempt probes it
}

// BuiltIn tells whether Plugin is a name; otherwise it is a path.
func (t Transport) BuiltIn() bool { return !isPath(t.Plugin) }

// Route says which events go where.
type Route struct {
	Name          string
	Hooks         []string // names, or just "*"
	Events        []core.Kind
	Forms         []core.Pattern
	Workflow      []core.Pattern
	Transform     string // absolute path of the script, or ""
	Transport     string
	Timeout       time.Duration // of one attempt
	ScriptTimeout time.Duration
	Secrets       map[string]string // for the script: references by name ([Config.Secrets])
	Enrich        bool              `json:",omitempty"` // the transform gets the record as well

	// What each is called in the file stands beside it; false is the default.
	Async           bool // mode = "async"
	AcceptOnTimeout bool // on_timeout = "accept"
	HoldUnknown     bool // on_unknown = "hold"
	HoldDead        bool // on_dead = "hold"
	StopOnFailure   bool // on_failure = "stop"; always without a journal
	FailBlocked     bool // on_blocked = "fail"

	RefuseBigIntegers bool // big_integers = "refuse"

	Retry core.Retry

	forms, workflow []string // as written: a Pattern cannot be compared
}

// Place tells where to look for a dotted key: "config.toml:12", or the name of the
// variable that sets it. Of a key that is not written it is the closest above it.
func (c *Config) Place(key string) string {
	if c.from == nil || key == "" {
		return c.Path
	}
	key, _, _ = strings.Cut(key, "[") // what is in a list has no place of its own
	source, line := c.from.locate(strings.Split(key, "."))
	if line == 0 {
		return source
	}
	return fmt.Sprintf("%s:%d", source, line)
}

// Serves tells whether the route takes events of the hook.
func (r Route) Serves(hook string) bool {
	return slices.Contains(r.Hooks, hook) || slices.Contains(r.Hooks, "*")
}

// maxFile bounds the file: a configuration is written by people.
const maxFile = 1 << 20

// Load reads the file and is otherwise [Parse]. Relative paths are relative to
// the file's folder.
func Load(path string, overrides map[string]string, environ []string) (*Config, error) {
	data, err := readLimited(path, maxFile)
	if err != nil {
		return nil, &Error{
			Problems: []Problem{{Source: path, Rule: "cannot be read: " + reason(err) + "; name the file with --config"}},
			cause:    err,
		}
	}
	return Parse(path, data, filepath.Dir(path), overrides, environ)
}

// Parse makes a Config of a file's content. name is what messages call the file,
// dir is what relative paths are relative to. overrides are command line flags,
// by dotted key ("server.listen"); environ is as of [os.Environ]. The error is an
// *[Error] that holds everything that is wrong.
func Parse(name string, toml []byte, dir string, overrides map[string]string, environ []string) (*Config, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, &Error{Problems: []Problem{{Source: name, Rule: "is in a folder that cannot be found: " + reason(err)}}, cause: err}
	}
	vars := environment(environ)
	tree, from, problems := layers(name, toml, vars, overrides)
	if tree == nil {
		return nil, &Error{Problems: sorted(problems)}
	}
	d := &decoder{dir: abs, from: from, problems: problems, unfit: map[string]bool{}}
	c := defaults()
	c.Path, c.Dir, c.environ, c.Source = name, abs, vars, bytes.Clone(toml)
	d.table(nil, tree, c.fields())
	d.checking = true
	d.check(c)
	if len(d.problems) > 0 {
		return nil, &Error{Problems: sorted(d.problems)}
	}
	for _, w := range sorted(d.warnings) {
		c.Warnings = append(c.Warnings, w.String())
	}
	c.from = from
	c.Revision = c.revision()
	return c, nil
}

// environment indexes os.Environ-like text. The first definition wins, as it
// does for os.Getenv.
func environment(environ []string) map[string]string {
	vars := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if _, twice := vars[name]; ok && !twice {
			vars[name] = value
		}
	}
	return vars
}

// reason is an error's text without the path, which the message names already.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// abs makes a path of the file absolute.
func abs(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// readLimited reads a regular file. A fifo or a device could block a reload for
// ever.
func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return nil, errors.New("it is a folder")
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Size() > limit:
		return nil, fmt.Errorf("it is larger than %d KiB", limit>>10)
	}
	return os.ReadFile(path)
}
