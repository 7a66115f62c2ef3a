package config

import (
	"slices"
	"time"
)

// Limits of the alerts' clocks.
const (
	maxQuiet        = 31 * day
	maxCircuitAfter = day
)

// Alerts say where an operator is told of what goes wrong.
type Alerts struct {
	Transport    string        // "" for none: alerts are logged and listed only
	QuietAfter   time.Duration // of hooks that say nothing of their own; 0: never
	CircuitAfter time.Duration // for which a circuit is open before it is an alert
}

func (a *Alerts) fields() fields {
	return fields{
		"transport":     str(&a.Transport),
		"quiet_after":   between(&a.QuietAfter, 0, maxQuiet),
		"circuit_after": between(&a.CircuitAfter, 0, maxCircuitAfter),
	}
}

// checkAlerts also gives hooks what they do not say themselves.
func (d *decoder) checkAlerts(c *Config) {
	at := path{"alerts"}
	if transports := transportNames(c); c.Alerts.Transport != "" && !slices.Contains(transports, c.Alerts.Transport) {
		d.unknownName(at.at("transport"), "transport", c.Alerts.Transport, transports)
	}
	if c.Alerts.Transport == "" && d.from.mentions(at) {
		d.warn(at.at("transport"), "is missing, so nobody is told of an alert: it is logged, and `hookline alerts` lists it. Name a transport")
	}
	for i := range c.Hooks {
		h := &c.Hooks[i]
		if !d.from.written(path{"hooks", h.Name, "quiet_after"}) {
			h.QuietAfter = c.Alerts.QuietAfter
		}
	}
}
