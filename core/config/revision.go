package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
)

// revision digests what is in effect. A default that is written out does not
// change it; the order of routes does. What a reference or a path leads to is
// not part of it, but for lookup files ([Config.AddLookups]).
func (c *Config) revision() string {
	type route struct {
		Route
		Forms, Workflow []string
	}
	routes := make([]route, len(c.Routes))
	for i, r := range c.Routes {
		routes[i] = route{r, r.forms, r.workflow}
	}
	data, err := json.Marshal(struct {
		Server     Server
		Log        Log
		Admin      Admin
		Journal    Journal
		Telemetry  Telemetry
		Alerts     Alerts
		Transforms Transforms
		Hooks      []Hook
		Transports []Transport
		Routes     []route
		Lookups    map[string]string `json:",omitempty"`
	}{c.Server, c.Log, c.Admin, c.Journal, c.Telemetry, c.Alerts, c.Transforms, c.Hooks, c.Transports, routes, c.lookups})
	if err != nil {
		// Every type in it can be marshalled, and Settings came from Marshal.
		panic("config: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// RestartKeys names the keys that differ in other and that a reload cannot
// apply, in the order of the documentation.
func (c *Config) RestartKeys(other *Config) []string {
	var keys []string
	changed := func(key string, same bool) {
		if !same {
			keys = append(keys, key)
		}
	}
	changed("server.listen", slices.Equal(c.Server.Listen, other.Server.Listen))
	changed("server.trusted_proxies", slices.Equal(c.Server.TrustedProxies, other.Server.TrustedProxies))
	changed("server.max_body", c.Server.MaxBody == other.Server.MaxBody)
	changed("server.max_in_flight", c.Server.MaxInFlight == other.Server.MaxInFlight)
	changed("server.header_timeout", c.Server.HeaderTimeout == other.Server.HeaderTimeout)
	changed("server.body_timeout", c.Server.BodyTimeout == other.Server.BodyTimeout)
	changed("server.idle_timeout", c.Server.IdleTimeout == other.Server.IdleTimeout)
	changed("server.tls.cert_file", c.Server.TLS.CertFile == other.Server.TLS.CertFile)
	changed("server.tls.key_file", c.Server.TLS.KeyFile == other.Server.TLS.KeyFile)
	changed("log.format", c.Log.Format == other.Log.Format)
	changed("admin.listen", slices.Equal(c.Admin.Listen, other.Admin.Listen))
	changed("admin.hosts", slices.Equal(c.Admin.Hosts, other.Admin.Hosts))
	changed("admin.tls.cert_file", c.Admin.TLS.CertFile == other.Admin.TLS.CertFile)
	changed("admin.tls.key_file", c.Admin.TLS.KeyFile == other.Admin.TLS.KeyFile)
	changed("journal.url", c.Journal.URL == other.Journal.URL)
	changed("journal.min_free", c.Journal.MinFree == other.Journal.MinFree)
	changed("journal.node", c.Journal.Node == other.Journal.Node)
	changed("telemetry.otlp", c.Telemetry.OTLP == other.Telemetry.OTLP)
	changed("telemetry.sample", c.Telemetry.Sample == other.Telemetry.Sample)
	changed("telemetry.headers", maps.Equal(c.Telemetry.Headers, other.Telemetry.Headers))
	return keys
}
