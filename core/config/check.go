package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hookline/hookline/core"
)

// check holds the rules that are about more than one key. It runs even when
// keys were unfit, so that everything wrong is reported at once; what an unfit
// key would have said is its default here.
func (d *decoder) check(c *Config) {
	d.checkServer(c)
	d.checkAdmin(c)
	d.checkJournal(c)
	d.checkTelemetry(c)
	d.checkAlerts(c)
	if len(c.Hooks) == 0 {
		d.fail(nil, "there is no hook: add a table [hooks.NAME], the address that TrialKit calls")
	}
	for i := range c.Hooks {
		d.checkHook(c, &c.Hooks[i])
	}
	for i := range c.Transports {
		d.checkTransport(c, &c.Transports[i])
	}
	if len(c.Routes) == 0 {
		d.fail(nil, "there is no route: add a table [routes.NAME] that leads from a hook to a transport")
	}
	for i := range c.Routes {
		d.checkRoute(c, &c.Routes[i])
	}
	d.checkUnkept(c)
}

func (d *decoder) checkServer(c *Config) {
	server := path{"server"}
	hasTLS := d.checkTLS(server.at("tls"), "server.listen", c.Server.Listen)
	for _, a := range c.Server.Listen {
		if !a.loopback() && !hasTLS && len(c.Server.TrustedProxies) == 0 {
			d.warn(server.at("listen"), "%s is reachable from other machines without TLS, so passwords and records cross the network in the open: set server.tls, or listen on 127.0.0.1 behind a proxy and name it in server.trusted_proxies", a)
		}
	}
}

func (d *decoder) checkHook(c *Config, h *Hook) {
	at := path{"hooks", h.Name}
	hasEmail, hasPassword := d.from.written(at.at("email")), d.from.written(at.at("password"))
	switch {
	case h.Anonymous && (hasEmail || hasPassword):
		d.fail(at.at("anonymous"), "contradicts email and password: with it anyone may call the hook. Remove one or the other")
	case !h.Anonymous && !hasEmail && !hasPassword:
		d.fail(at, "needs email and password, the ones that are set in TrialKit; anonymous = true lets anyone call it")
	case hasEmail && !hasPassword:
		d.fail(at.at("password"), `is missing: email has no use without it. Write a reference such as "env:NAME" or "file:PATH"`)
	case hasPassword && !hasEmail:
		d.fail(at.at("email"), "is missing: password has no use without it. Write the one that is set in TrialKit")
	}
	switch {
	case hasEmail && h.Email == "":
		d.fail(at.at("email"), "must not be empty")
	case strings.Contains(h.Email, ":"):
		d.fail(at.at("email"), "must not hold a colon: in Basic authentication it ends the name")
	}
	d.checkPasswords(c, at.at("password"), h.Passwords)
	d.checkRetention(h)
	d.checkTrialKit(c, h)

	routes := 0
	for _, r := range c.Routes {
		if r.Serves(h.Name) {
			routes++
		}
	}
	if routes == 0 && len(c.Routes) > 0 {
		d.warn(at, "is served by no route: none of its events is delivered")
	}
	if h.Reply != "" {
		i := slices.IndexFunc(c.Routes, func(r Route) bool { return r.Name == h.Reply })
		switch {
		case i < 0:
			d.unknownName(at.at("reply"), "route", h.Reply, routeNames(c))
		case !c.Routes[i].Serves(h.Name):
			d.fail(at.at("reply"), "route %s does not serve this hook: add %q to routes.%s.hooks, or name one that does", h.Reply, h.Name, h.Reply)
		case c.Routes[i].Async:
			d.fail(at.at("reply"), `route %s has mode = "async", so there is no answer of its target to relay when TrialKit is answered: write mode = "sync" there, or leave reply out`, h.Reply)
		}
	}
}

// checkPasswords finds out now, with everything else, what would otherwise be
// found out at the first call.
func (d *decoder) checkPasswords(c *Config, p path, refs []string) {
	for _, ref := range refs {
		value, err := c.Resolve(ref)
		switch {
		case err != nil:
			d.fail(p, "%s", err)
		case value == "":
			d.fail(p, `must not be empty: write a reference such as "env:NAME" or "file:PATH"`)
		case looksHashed(value):
			switch fault := faultOf(value); {
			case fault != "" && isReference(ref):
				d.fail(p, "%s stands for a bcrypt hash that %s", quote(ref), fault)
			case fault != "":
				d.fail(p, "holds a bcrypt hash that %s", fault)
			}
		case !isReference(ref) && d.from.inFile(p):
			d.warn(p, "is written in the file, where everyone who may read it sees it: use env:NAME, file:PATH or a bcrypt hash")
		}
	}
}

func (d *decoder) checkTransport(c *Config, t *Transport) {
	at := path{"transports", t.Name}
	if !d.from.written(at.at("plugin")) {
		d.fail(at.at("plugin"), `is missing: name a built-in plugin, such as "http", or the path of one, such as "./my-plugin"`)
	} else if t.Plugin != "" && t.BuiltIn() {
		for _, key := range []string{"sha256", "args", "mtls", "attach"} {
			if d.from.written(at.at(key)) {
				d.fail(at.at(key), "is for a plugin that is a file: %s is built in. Remove it", t.Plugin)
			}
		}
	}
	if t.Attach != "" {
		d.warn(at.at("attach"), "is for development: the plugin is not started but must run, and nothing that goes to it is encrypted")
	}
	if t.NoMTLS && !t.BuiltIn() {
		d.warn(at.at("mtls"), "is off: only the mode of the socket's folder, 0700, keeps others from the plugin. Leave it on if the plugin can do AutoMTLS")
	}
	if !slices.ContainsFunc(c.Routes, func(r Route) bool { return r.Transport == t.Name }) && len(c.Routes) > 0 && c.Alerts.Transport != t.Name {
		d.warn(at, "is used by no route")
	}
}

func (d *decoder) checkRoute(c *Config, r *Route) {
	at := path{"routes", r.Name}
	d.checkRouteHooks(c, r, at.at("hooks"))

	switch transports := transportNames(c); {
	case !d.from.written(at.at("transport")):
		d.fail(at.at("transport"), "is missing: name a transport")
	case !slices.Contains(transports, r.Transport):
		d.unknownName(at.at("transport"), "transport", r.Transport, transports)
	}
	if len(r.Workflow) > 0 && len(r.Events) > 0 && !slices.Contains(r.Events, core.Review) {
		d.warn(at.at("workflow"), "is for reviews, which routes.%s.events leaves out: it has no effect", r.Name)
	}
	for _, key := range []string{"script_timeout", "big_integers"} {
		if r.Transform == "" && d.from.written(at.at(key)) && !d.from.written(at.at("transform")) {
			d.warn(at.at(key), "has no effect without a transform")
		}
	}
	d.checkGrants(c, r, at.at("secrets"))
	d.checkEnrich(c, r, at)
	d.checkRetry(r, at)
	if r.Async {
		for key, written := range map[string]bool{"on_timeout": r.AcceptOnTimeout, "on_failure": r.StopOnFailure, "on_blocked": r.FailBlocked} {
			if written {
				d.warn(at.at(key), `has no effect with mode = "async": the caller is told of no failure`)
			}
		}
		return
	}
	if !r.AcceptOnTimeout {
		d.checkWait(c, r, at.at("timeout"), r.Timeout)
	}
	d.checkWait(c, r, at.at("script_timeout"), r.ScriptTimeout)
}

func (d *decoder) checkRetry(r *Route, at path) {
	retry := at.at("retry")
	first, longest := retry.at("initial"), retry.at("max")
	switch {
	case r.Retry.Initial <= r.Retry.Max || d.isUnfit(first) || d.isUnfit(longest):
	case d.from.written(first):
		d.fail(first, "must not be longer than max, which is %s: write a shorter one, or a longer max", short(r.Retry.Max))
	default:
		d.fail(longest, "must not be shorter than initial, which is %s: write a longer one, or a shorter initial", short(r.Retry.Initial))
	}
}

// checkWait warns of a wait that never ends by itself. Only of one that is
// written: the defaults are not the user's doing.
func (d *decoder) checkWait(c *Config, r *Route, p path, wait time.Duration) {
	for _, h := range c.Hooks {
		if r.Serves(h.Name) && wait > h.Timeout && d.from.written(p) {
			d.warn(p, "is longer than hooks.%s.timeout, %s, which ends it first", h.Name, short(h.Timeout))
		}
	}
}

func (d *decoder) checkRouteHooks(c *Config, r *Route, p path) {
	switch {
	case !d.from.written(p):
		d.fail(p, `is missing: name the hooks whose events it takes, or ["*"] for every hook`)
		return
	case len(r.Hooks) == 0:
		d.fail(p, `must name at least one hook, or be ["*"] for every hook`)
		return
	case slices.Contains(r.Hooks, "*") && len(r.Hooks) > 1:
		d.fail(p, `"*" means every hook already: write ["*"] or names`)
		return
	}
	known := hookNames(c)
	seen := map[string]bool{}
	for _, name := range r.Hooks {
		switch {
		case name == "*":
		case seen[name]:
			d.fail(p, "names %s twice", quote(name))
		case !slices.Contains(known, name):
			d.unknownName(p, "hook", name, known)
		}
		seen[name] = true
	}

	byStage := map[core.Stage][]string{}
	for _, h := range c.Hooks {
		if r.Serves(h.Name) {
			byStage[h.Stage] = append(byStage[h.Stage], h.Name)
		}
	}
	if len(byStage[core.Live]) > 0 && len(byStage[core.UAT]) > 0 {
		d.fail(p, "must not mix stages: live (%s) and uat (%s). Make one route for each",
			strings.Join(byStage[core.Live], ", "), strings.Join(byStage[core.UAT], ", "))
	}
}

func (d *decoder) unknownName(p path, what, name string, known []string) {
	hint := fmt.Sprintf("the %ss are %s", what, strings.Join(known, ", "))
	if near := nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	} else if len(known) == 0 {
		hint = fmt.Sprintf("add a table [%ss.NAME]", what)
	}
	d.fail(p, "there is no %s %s; %s", what, quote(name), hint)
}

func hookNames(c *Config) (out []string) {
	for _, h := range c.Hooks {
		out = append(out, h.Name)
	}
	return out
}

func transportNames(c *Config) (out []string) {
	for _, t := range c.Transports {
		out = append(out, t.Name)
	}
	return out
}

func routeNames(c *Config) (out []string) {
	for _, r := range c.Routes {
		out = append(out, r.Name)
	}
	return out
}
