package config

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// TrialKit is how to read from TrialKit's API for the events of a hook.
type TrialKit struct {
	URL             string
	Email           string
	Password        string // a reference or a literal, as AccessKey: [Config.Resolve]
	AccessKey       string
	AccessKeyHeader string
	RecordPath      string // with {trans_id}, and perhaps {form_id}
	FormIDField     string // a JSON pointer or a key; "": not looked at
	Timeout         time.Duration
	MaxReply        int64  // bytes
	CAFile          string // absolute, or ""
}

const (
	maxRecord     = 16 << 20 // of max_reply: it has to go through the scripts' process
	defaultRecord = "form/7/{trans_id}"
	// defaultKeyHeader is a guess: TrialKit's help calls it "From Access Key" and
	// does not tell the header.
	defaultKeyHeader = "From-Access-Key"
)

// trialkit is a table that a hook may do without.
func trialkit(out **TrialKit) field {
	return func(d *decoder, p path, value any) {
		t := &TrialKit{
			AccessKeyHeader: defaultKeyHeader, RecordPath: defaultRecord, FormIDField: "/form_id",
			Timeout: 5 * time.Second, MaxReply: 1 << 20,
		}
		d.table(p, value, t.fields())
		*out = t
	}
}

func (t *TrialKit) fields() fields {
	return fields{
		"url":               apiURL(&t.URL),
		"email":             str(&t.Email),
		"password":          str(&t.Password),
		"access_key":        str(&t.AccessKey),
		"access_key_header": str(&t.AccessKeyHeader),
		"record_path":       str(&t.RecordPath),
		"form_id_field":     str(&t.FormIDField),
		"timeout":           duration(&t.Timeout, maxWait),
		"max_reply":         size(&t.MaxReply, 1, maxRecord),
		"ca_file":           file(&t.CAFile, "PEM certificates"),
	}
}

func apiURL(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if err := checkAPI(s); err != nil {
			d.fail(p, "%s", err)
			return
		}
		*out = s
	}
}

// checkAPI completes the sentence "hooks.X.trialkit.url ..." and quotes nothing:
// there may be a password in it.
func checkAPI(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return errors.New(`must be the URL of TrialKit's API, such as "https://trialkit.example.org/api"`)
	case u.User != nil:
		return errors.New("must not hold a name and password: write email and password")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return errors.New("must not have a query or a fragment: paths are added to it")
	}
	return nil
}

func (d *decoder) checkTrialKit(c *Config, h *Hook) {
	if h.TrialKit == nil {
		return
	}
	at, t := path{"hooks", h.Name, "trialkit"}, h.TrialKit
	for _, need := range []struct{ key, value, what string }{
		{"url", t.URL, "write what record_path is added to"},
		{"email", t.Email, "write that of the API user in TrialKit"},
		{"password", t.Password, `write that of the API user, as a reference such as "env:NAME" or "file:PATH"`},
		{"access_key", t.AccessKey, `write the "From Access Key" that the vendor has assigned, as a reference such as "env:NAME" or "file:PATH"`},
	} {
		switch {
		case !d.from.written(at.at(need.key)):
			d.fail(at.at(need.key), "is missing: %s", need.what)
		case need.value == "":
			d.fail(at.at(need.key), "must not be empty: %s", need.what)
		}
	}
	if strings.Contains(t.Email, ":") {
		d.fail(at.at("email"), "must not hold a colon: in Basic authentication it ends the name")
	}
	for key, ref := range map[string]string{"password": t.Password, "access_key": t.AccessKey} {
		if _, err := c.Resolve(ref); err != nil {
			d.fail(at.at(key), "%s", err)
		} else if ref != "" && !isReference(ref) && d.from.inFile(at.at(key)) {
			d.warn(at.at(key), "is written in the file, where everyone who may read it sees it: use env:NAME or file:PATH")
		}
	}
	if u, err := url.Parse(t.URL); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		d.warn(at.at("url"), "is http to another machine, so the credentials and records cross the network in the open: use https")
	}
	if t.FormIDField == "" {
		d.warn(at.at("form_id_field"), "is empty, so nobody sees whether the record read is of the event's form and study: say where its form stands")
	}
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// checkEnrich wants a use for the record, and somewhere to read it.
func (d *decoder) checkEnrich(c *Config, r *Route, at path) {
	if !r.Enrich {
		return
	}
	if r.Transform == "" && !d.from.written(at.at("transform")) {
		d.fail(at.at("enrich"), "needs a transform, which finds the record in event.record: the event as it came is never changed. Name one, or leave enrich out")
	}
	var without []string
	for _, h := range c.Hooks {
		if r.Serves(h.Name) && h.TrialKit == nil && !d.isUnfit(path{"hooks", h.Name, "trialkit"}) {
			without = append(without, h.Name)
		}
	}
	if len(without) > 0 {
		slices.Sort(without)
		d.fail(at.at("enrich"), "needs a table [hooks.%s.trialkit], which says how to read from TrialKit's API: add it, or leave enrich out", strings.Join(without, ".trialkit] and [hooks."))
	}
}
