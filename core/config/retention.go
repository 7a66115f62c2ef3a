package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Retention says how long the journal keeps what a hook has taken in, counted from
// when it came; 0 is for ever.
type Retention struct {
	Payloads time.Duration // the bodies that came
	Sent     time.Duration // what was sent, and what the targets answered
	Enriched time.Duration // what was fetched for an event
	Events   time.Duration // all of an event
}

const (
	year         = 365 * day
	minRetention = day
	maxRetention = 100 * year
)

func (r *Retention) fields() fields {
	return fields{
		"payloads": age(&r.Payloads),
		"sent":     age(&r.Sent),
		"enriched": age(&r.Enriched),
		"events":   age(&r.Events),
	}
}

var agePattern = regexp.MustCompile(`^([0-9]{1,5})([dwy])$`)

var ageUnits = map[string]time.Duration{"d": day, "w": 7 * day, "y": year}

// age is a duration that people count in days, weeks or years.
func age(out *time.Duration) field {
	const want = `a duration in quotes, such as "90d", "12w" or "10y"`
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, want)
		if !ok {
			return
		}
		v, ok := parseAge(strings.TrimSpace(s))
		switch {
		case !ok:
			d.fail(p, "%s is not a duration: write a whole number with d, w or y, such as 90d, 12w or 10y", quote(s))
		case v < minRetention || v > maxRetention:
			d.fail(p, "must be between 1d and %dy: leave it out to keep it for ever", maxRetention/year)
		default:
			*out = v
		}
	}
}

func parseAge(s string) (time.Duration, bool) {
	if m := agePattern.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		unit := ageUnits[m[2]]
		if limit := int(maxRetention/unit) + 1; n > limit {
			n = limit // refused all the same, and no overflow
		}
		return time.Duration(n) * unit, err == nil
	}
	v, err := time.ParseDuration(s)
	return v, err == nil
}

// checkRetention refuses to keep a part of an event longer than the event.
func (d *decoder) checkRetention(h *Hook) {
	r := h.Retention
	if r.Events == 0 {
		return
	}
	at := path{"hooks", h.Name, "retention"}
	for _, part := range []struct {
		key string
		age time.Duration
	}{{"payloads", r.Payloads}, {"sent", r.Sent}, {"enriched", r.Enriched}} {
		if part.age > r.Events {
			d.fail(at.at("events"), "is %s and %s is %s: an event goes with all of its parts, so it must be at least as long", inDays(r.Events), part.key, inDays(part.age))
		}
	}
}

func inDays(v time.Duration) string {
	if v%day != 0 {
		return short(v)
	}
	return fmt.Sprintf("%dd", v/day)
}
