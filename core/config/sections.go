package config

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/hookline/hookline/core"
)

// Limits that keep a slip of the pen from becoming a setting.
const (
	maxWait      = 10 * time.Minute // of a caller, an attempt or a script
	maxServer    = time.Hour        // of the server's own clocks
	maxBody      = 64 << 20
	maxMinFree   = 1 << 50
	maxLabel     = 100
	maxDedup     = 31 * day
	maxCircuit   = time.Hour // of a pause
	maxPause     = day       // between two attempts
	maxRetryAge  = 90 * day
	minPause     = 10 * time.Millisecond
	defaultAdmin = "unix:hookline-admin.sock"
)

// defaults is the lowest layer. Those of hooks, transports and routes are set
// where their names are met. Addresses that depend on the folder come in check.
func defaults() *Config {
	return &Config{
		Server: Server{
			Listen:        []Address{{"tcp", "127.0.0.1:8787"}},
			MaxBody:       1 << 20,
			MaxInFlight:   1024,
			HeaderTimeout: 10 * time.Second,
			BodyTimeout:   30 * time.Second,
			IdleTimeout:   2 * time.Minute,
			DrainTimeout:  30 * time.Second,
		},
		Log:     Log{Level: slog.LevelInfo, Format: "auto"},
		Journal: Journal{MinFree: 512 << 20},

		Telemetry:  Telemetry{Sample: 1},
		Alerts:     Alerts{CircuitAfter: 5 * time.Minute},
		Transforms: Transforms{Memory: 256 << 20},
	}
}

// fields are the tables of the file.
func (c *Config) fields() fields {
	return fields{
		"server":     section(c.Server.fields()),
		"log":        section(c.Log.fields()),
		"admin":      section(c.adminFields()),
		"journal":    section(c.Journal.fields()),
		"telemetry":  section(c.Telemetry.fields()),
		"alerts":     section(c.Alerts.fields()),
		"transforms": section(c.Transforms.fields()),
		"hooks":      names(c.addHook),
		"transports": names(c.addTransport),
		"routes":     names(c.addRoute),
	}
}

func (s *Server) fields() fields {
	return fields{
		"listen":          addresses(&s.Listen),
		"trusted_proxies": prefixes(&s.TrustedProxies),
		"max_body":        size(&s.MaxBody, 1, maxBody),
		"max_in_flight":   integer(&s.MaxInFlight, 1, 100_000),
		"header_timeout":  duration(&s.HeaderTimeout, maxServer),
		"body_timeout":    duration(&s.BodyTimeout, maxServer),
		"idle_timeout":    duration(&s.IdleTimeout, maxServer),
		"drain_timeout":   duration(&s.DrainTimeout, maxServer),
		"watch":           boolean(&s.Watch),
		"tls":             section(s.TLS.fields()),
	}
}

func (l *Log) fields() fields {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return fields{
		"level":  choice(func(s string) { l.Level = levels[s] }, "debug", "info", "warn", "error"),
		"format": choice(func(s string) { l.Format = s }, "auto", "text", "json"),
	}
}

// The pointers into the slices below live until the next name is added; the
// name's table is decoded before that.

func (c *Config) addHook(name string) fields {
	c.Hooks = append(c.Hooks, Hook{
		Name: name, Stage: core.Live, Timeout: 15 * time.Second,
		AcceptedStatus: http.StatusAccepted, LoopLimit: 20, Dedup: day,
	})
	h := &c.Hooks[len(c.Hooks)-1]
	return fields{
		"study":     str(&h.Study),
		"stage":     textual(&h.Stage),
		"email":     str(&h.Email),
		"password":  passwords(&h.Passwords),
		"anonymous": boolean(&h.Anonymous),
		"timeout":   duration(&h.Timeout, maxWait),
		"reply":     str(&h.Reply),
		"unmatched": choice(func(s string) { h.UnmatchedError = s == "error" }, "ignore", "error"),

		"accepted_status": acceptedStatus(&h.AcceptedStatus),
		"loop_limit":      integer(&h.LoopLimit, 0, 100_000),
		"dedup":           between(&h.Dedup, 0, maxDedup),
		"retention":       section(h.Retention.fields()),
		"quiet_after":     between(&h.QuietAfter, 0, maxQuiet),
		"trialkit":        trialkit(&h.TrialKit),
	}
}

func (c *Config) addTransport(name string) fields {
	c.Transports = append(c.Transports, Transport{
		Name: name, Label: name, Settings: json.RawMessage("{}"),
		Concurrency: 256, Circuit: Circuit{Failures: 10, Pause: 15 * time.Second},
	})
	t := &c.Transports[len(c.Transports)-1]
	return fields{
		"plugin":   plugin(&t.Plugin),
		"sha256":   checksum(&t.SHA256),
		"args":     strs(&t.Args),
		"mtls":     negated(&t.NoMTLS),
		"attach":   attachment(&t.Attach),
		"label":    label(&t.Label),
		"settings": settings(&t.Settings),

		"concurrency": integer(&t.Concurrency, 1, 10_000),
		"rate":        number(&t.Rate, 0, 100_000),
		"circuit":     section(t.Circuit.fields()),
	}
}

func (c *Circuit) fields() fields {
	return fields{
		"failures": integer(&c.Failures, 0, 1000),
		"pause":    between(&c.Pause, 100*time.Millisecond, maxCircuit),
	}
}

func (c *Config) addRoute(name string) fields {
	c.Routes = append(c.Routes, Route{
		Name: name, Timeout: 10 * time.Second, ScriptTimeout: 250 * time.Millisecond,
		Retry: core.Retry{Initial: 2 * time.Second, Factor: 2, Max: 10 * time.Minute, MaxAge: 3 * day},
	})
	r := &c.Routes[len(c.Routes)-1]
	return fields{
		"hooks":          strs(&r.Hooks),
		"events":         textuals(&r.Events, nil),
		"forms":          textuals(&r.Forms, &r.forms),
		"workflow":       textuals(&r.Workflow, &r.workflow),
		"transform":      script(&r.Transform),
		"transport":      str(&r.Transport),
		"timeout":        duration(&r.Timeout, maxWait),
		"script_timeout": duration(&r.ScriptTimeout, maxWait),
		"big_integers":   either(&r.RefuseBigIntegers, "string", "refuse"),
		"secrets":        grants(&r.Secrets),
		"enrich":         boolean(&r.Enrich),

		"mode":       either(&r.Async, "sync", "async"),
		"on_timeout": either(&r.AcceptOnTimeout, "fail", "accept"),
		"on_unknown": either(&r.HoldUnknown, "retry", "hold"),
		"on_dead":    either(&r.HoldDead, "continue", "hold"),
		"on_failure": either(&r.StopOnFailure, "retry", "stop"),
		"on_blocked": either(&r.FailBlocked, "accept", "fail"),
		"retry":      section(retryFields(&r.Retry)),
	}
}

func retryFields(r *core.Retry) fields {
	return fields{
		"initial":  between(&r.Initial, minPause, maxPause),
		"factor":   number(&r.Factor, 1, 10),
		"max":      between(&r.Max, minPause, maxPause),
		"max_age":  between(&r.MaxAge, time.Second, maxRetryAge),
		"attempts": integer(&r.Attempts, 0, 10_000),
	}
}

// acceptedStatus is one of the two that say "taken".
func acceptedStatus(out *int) field {
	return func(d *decoder, p path, value any) {
		status := *out
		before := len(d.problems)
		integer(&status, math.MinInt, math.MaxInt)(d, p, value)
		switch {
		case len(d.problems) > before:
		case status != http.StatusAccepted && status != http.StatusOK:
			d.fail(p, "must be 202, or 200 for a caller that takes nothing else")
		default:
			*out = status
		}
	}
}

// passwords is a string or a list of them, for rotation.
func passwords(out *[]string) field {
	return func(d *decoder, p path, value any) {
		var items []string
		switch v := value.(type) {
		case string:
			items = []string{v}
		case text:
			items = splitPasswords(string(v))
		case []any:
			var ok bool
			if items, ok = d.list(p, value); !ok {
				return
			}
			if len(items) == 0 {
				d.fail(p, "must not be an empty list")
				return
			}
		default:
			d.mismatch(p, "a string or a list of strings", value)
			return
		}
		*out = items
	}
}

// splitPasswords divides a variable's value at commas, but not a literal
// password that happens to hold one.
func splitPasswords(s string) []string {
	items := split(s)
	if len(items) == 0 {
		return []string{s} // empty, which check refuses
	}
	for _, item := range items {
		if !isReference(item) && !looksHashed(item) {
			return []string{s}
		}
	}
	return items
}

var bcryptPrefix = regexp.MustCompile(`^\$2[aby]\$`)

func looksHashed(s string) bool { return bcryptPrefix.MatchString(s) }

func label(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		switch {
		case !ok:
		case strings.TrimSpace(s) == "" || len(s) > maxLabel || strings.ContainsFunc(s, unicode.IsControl):
			d.fail(p, "must be one line of at most %d bytes, and not empty: a site's user reads it", maxLabel)
		default:
			*out = s
		}
	}
}

// settings are the plugin's: they go on as they came.
func settings(out *json.RawMessage) field {
	return func(d *decoder, p path, value any) {
		table, ok := value.(map[string]any)
		if !ok {
			d.mismatch(p, "a table", value)
			return
		}
		if !d.finite(p, table) {
			return
		}
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(table); err != nil {
			d.fail(p, "cannot be written as JSON")
			return
		}
		*out = json.RawMessage(bytes.TrimSpace(buf.Bytes()))
	}
}

// finite refuses the numbers that TOML has and JSON has not.
func (d *decoder) finite(p path, value any) bool {
	ok := true
	switch v := value.(type) {
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			d.fail(p, "must not be inf or nan")
			return false
		}
	case []any:
		for _, item := range v {
			ok = d.finite(p, item) && ok
		}
	case map[string]any:
		for key, item := range v {
			ok = d.finite(p.at(key), item) && ok
		}
	}
	return ok
}
