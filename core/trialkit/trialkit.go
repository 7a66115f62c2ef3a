// Package trialkit reads records from TrialKit's API. What is public of that API is
// little: a base URL, Basic authentication, an access key in a header of the
// vendor's, and that form/7/<trans_id> gives a record. The rest is configurable.
package trialkit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/hookline/hookline/core"
)

// Options are the API as one hook uses it, secrets resolved.
type Options struct {
	Hook            string // its name, for messages
	URL             string // what paths are below; http or https
	Email, Password string
	AccessKey       string
	AccessKeyHeader string
	RecordPath      string        // with {trans_id}, and {form_id} perhaps
	FormIDField     string        // a JSON pointer, or a key; "": a record's form is not looked at
	Timeout         time.Duration // of one request
	MaxReply        int64         // bytes
	CAFile          string        // PEM; "": the system's authorities
	Version         string        // of Hookline
}

const (
	dialTimeout = 10 * time.Second
	idleTimeout = 90 * time.Second
	// maxConns bounds what is asked of the API at a time: after an outage the
	// background has a lot to ask. More waits its turn.
	maxConns   = 16
	maxHeaders = 64 << 10
)

// Client reads for the hooks of one configuration. It keeps nothing that it has
// read.
type Client struct{ hooks map[string]*api }

var _ core.Enricher = (*Client)(nil)

// New makes a Client. The error names the key of each setting that is not right.
func New(hooks []Options) (*Client, error) {
	c := &Client{hooks: map[string]*api{}}
	var bad []error
	for _, o := range hooks {
		a, err := newAPI(o)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		c.hooks[o.Hook] = a
	}
	if len(bad) > 0 {
		c.Close()
		return nil, errors.Join(bad...)
	}
	return c, nil
}

// Close ends what is being read.
func (c *Client) Close() {
	for _, a := range c.hooks {
		a.close()
	}
}

// Enrich reads the event's record. See [core.Enricher].
func (c *Client) Enrich(ctx context.Context, ev *core.Event) (*core.Snapshot, error) {
	a := c.hooks[ev.Hook.Name]
	if a == nil {
		return nil, &core.EnrichError{Text: unknownHook(ev.Hook.Name), Hopeless: true}
	}
	path := strings.NewReplacer(
		"{trans_id}", url.PathEscape(ev.TransID), "{form_id}", url.PathEscape(ev.FormID),
	).Replace(a.RecordPath)
	if err := checkPath(path); err != nil {
		return nil, &core.EnrichError{Text: a.key("record_path") + " makes no path of this record's id: it " + err.Error(), Hopeless: true}
	}
	reply, err := a.read(ctx, path)
	if err != nil {
		return nil, err
	}
	if a.form != nil {
		form, ok := textAt(reply.body, a.form)
		switch {
		case !ok:
			return nil, &core.EnrichError{
				Text:     fmt.Sprintf("what TrialKit's API gave has no form at %s, %q: write where it stands", a.key("form_id_field"), a.FormIDField),
				Hopeless: true,
			}
		case form != ev.FormID:
			return nil, &core.EnrichError{
				Text: fmt.Sprintf("TrialKit's API gave a record of another form than the event's, %s: the default study of the API user %s may be another one. Give each study an API user of its own",
					ev.FormID, a.key("email")),
				Hopeless: true,
			}
		}
	}
	return &core.Snapshot{Record: reply.body, ReadAt: reply.began.UTC()}, nil
}

// Get reads what stands at a path below the hook's URL, such as "form/7/435". The
// path may come from a script, so it cannot leave that URL. The error is fit for a
// log. What is given is JSON; do not change it.
func (c *Client) Get(ctx context.Context, hook, path string) ([]byte, error) {
	a := c.hooks[hook]
	if a == nil {
		return nil, errors.New(unknownHook(hook))
	}
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("this path of TrialKit's API %w: write it as it follows %s, such as form/7/435", err, a.key("url"))
	}
	reply, err := a.read(ctx, path)
	if err != nil {
		return nil, err
	}
	return reply.body, nil
}

func unknownHook(name string) string {
	return fmt.Sprintf("hook %s has no table [hooks.%s.trialkit], which says how to reach TrialKit's API", name, name)
}

// api is the API of one hook.
type api struct {
	Options
	form   []string // FormIDField
	base   string
	header http.Header
	client *http.Client

	life    context.Context // ends by close
	end     context.CancelFunc
	running sync.WaitGroup

	slots chan struct{} // a place for each connection that is in use
	mu    sync.Mutex
	open  map[string]*flight // by path, the newest
}

// key is a setting's.
func (o *Options) key(name string) string { return "hooks." + o.Hook + ".trialkit." + name }

func newAPI(o Options) (*api, error) {
	a := &api{Options: o, base: strings.TrimSuffix(o.URL, "/"), open: map[string]*flight{}, slots: make(chan struct{}, maxConns)}
	var bad []error
	refuse := func(key, format string, args ...any) {
		bad = append(bad, fmt.Errorf("%s: "+format, append([]any{o.key(key)}, args...)...))
	}
	if !strings.Contains(o.RecordPath, "{trans_id}") {
		refuse("record_path", "must hold {trans_id}, which stands for the record, as in form/7/{trans_id}")
	} else if err := checkPath(strings.NewReplacer("{trans_id}", "1", "{form_id}", "1").Replace(o.RecordPath)); err != nil {
		refuse("record_path", "%w; write it as it follows url, such as form/7/{trans_id}", err)
	}
	if o.FormIDField != "" {
		var err error
		if a.form, err = parsePointer(o.FormIDField); err != nil {
			refuse("form_id_field", "%w", err)
		}
	}
	switch lower := strings.ToLower(o.AccessKeyHeader); {
	case !httpguts.ValidHeaderFieldName(o.AccessKeyHeader):
		refuse("access_key_header", "must be the name of a header: letters, digits and hyphens")
	case slices.Contains([]string{"authorization", "host", "content-length", "content-type", "connection", "transfer-encoding", "accept", "user-agent"}, lower):
		refuse("access_key_header", "is a header that Hookline or HTTP itself sets: write the one that the vendor names")
	}
	if !httpguts.ValidHeaderFieldValue(o.AccessKey) {
		refuse("access_key", "must not have control characters; a file must not hold a second line")
	}
	if strings.ContainsFunc(o.Password, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		refuse("password", "must not have control characters; a file must not hold a second line")
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if secure.RootCAs = x509.NewCertPool(); err != nil {
			refuse("ca_file", "must be a file that can be read: %w", err)
		} else if !secure.RootCAs.AppendCertsFromPEM(pem) {
			refuse("ca_file", "must hold certificates in PEM")
		}
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	a.header = http.Header{"Accept": {"application/json"}, "User-Agent": {"hookline/" + o.Version}}
	a.header.Set(o.AccessKeyHeader, o.AccessKey)
	a.client = newHTTPClient(secure)
	a.life, a.end = context.WithCancel(context.Background())
	return a, nil
}

func (a *api) close() {
	a.end()
	a.running.Wait()
	a.client.CloseIdleConnections()
}
