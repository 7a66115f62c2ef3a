package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Telemetry says where traces go. Metrics need no settings: they are on the admin
// listener.
type Telemetry struct {
	// OTLP is the base URL of a collector that takes OTLP over HTTP, "" for no
	// traces.
	OTLP   string
	Sample float64 // part of the events that are traced, 0 to 1
	// Headers go with every request to the collector. Their values may be
	// references: see [Config.TelemetryHeaders].
	Headers map[string]string
}

func (t *Telemetry) fields() fields {
	return fields{
		"otlp":    otlp(&t.OTLP),
		"sample":  number(&t.Sample, 0, 1),
		"headers": headers(&t.Headers),
	}
}

// TelemetryHeaders are the headers for the collector, with references resolved.
// The error never holds what one stands for.
func (c *Config) TelemetryHeaders() (map[string]string, error) {
	return c.resolveAll("telemetry.headers", c.Telemetry.Headers)
}

// resolveAll resolves the references of a table, whose key is named in the error.
func (c *Config) resolveAll(key string, refs map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(refs))
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		value, err := c.Resolve(refs[name])
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", key, name, err)
		}
		out[name] = value
	}
	return out, nil
}

func otlp(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if s != "" {
			if err := checkOTLP(s); err != nil {
				d.fail(p, "%s", err)
				return
			}
		}
		*out = s
	}
}

// checkOTLP completes the sentence "telemetry.otlp ..." and quotes nothing: there
// may be a password in it.
func checkOTLP(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return errors.New(`must be the URL of a collector that takes OTLP over HTTP, such as "http://127.0.0.1:4318"`)
	case u.User != nil:
		return errors.New(`must not hold a name and password: write telemetry.headers = { authorization = "env:NAME" }`)
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("must not have a query or a fragment: keys go into telemetry.headers")
	}
	return nil
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

func headers(out *map[string]string) field {
	return func(d *decoder, p path, value any) {
		table, ok := value.(map[string]any)
		if !ok {
			d.noTable(p, value)
			return
		}
		*out = make(map[string]string, len(table))
		for _, name := range slices.Sorted(maps.Keys(table)) {
			at := p.at(name)
			var s string
			before := len(d.problems)
			str(&s)(d, at, table[name])
			switch {
			case len(d.problems) > before:
			case !headerName.MatchString(name):
				d.fail(at, "is not the name of a header: use letters, digits and -")
			case s == "":
				d.fail(at, "must not be empty: write a value, or a reference such as \"env:NAME\"")
			default:
				(*out)[name] = s
			}
		}
	}
}

func (d *decoder) checkTelemetry(c *Config) {
	at := path{"telemetry"}
	for _, name := range slices.Sorted(maps.Keys(c.Telemetry.Headers)) {
		ref, key := c.Telemetry.Headers[name], at.at("headers").at(name)
		switch _, err := c.Resolve(ref); {
		case err != nil:
			d.fail(key, "%s", err)
		case !isReference(ref) && strings.EqualFold(name, "authorization") && d.from.inFile(key):
			d.warn(key, "is written in the file, where everyone who may read it sees it: use env:NAME or file:PATH")
		}
	}
	if c.Telemetry.OTLP == "" {
		for _, key := range []string{"sample", "headers"} {
			if d.from.mentions(at.at(key)) {
				d.warn(at.at(key), "has no effect without telemetry.otlp")
			}
		}
	}
}
