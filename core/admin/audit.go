package admin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/hookline/hookline/core/journal"
)

type auditJournal interface {
	Verify(ctx context.Context) (*journal.Verification, error)
	Export(ctx context.Context, w io.Writer, since, until time.Time) error
	Asked(ctx context.Context, actor, act, reason string) error
}

// auditTimeout is for reading all of a journal.
const auditTimeout = 10 * time.Minute

// verify compares the journal with its audit.
func (a *api) verify(r *http.Request) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	v, err := j.Verify(r.Context())
	if err != nil {
		return nil, err
	}
	if len(v.Findings) > 0 {
		a.Log.Error("the journal is not as it was written: `hookline audit verify` names what", "findings", len(v.Findings)+v.More)
	}
	return v, j.Asked(r.Context(), actorOf(r.Context()), "audit verify", "")
}

// export gives the audit as JSON lines.
func (a *api) export(r *http.Request) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	p, err := query(r, []string{"since", "until"})
	if err != nil {
		return nil, err
	}
	since, until := p.time("since"), p.time("until")
	if p.err != nil {
		return nil, p.err
	}
	var out bytes.Buffer
	if err := j.Export(r.Context(), &limited{w: &out, left: maxAnswer}, since, until); err != nil {
		return nil, err
	}
	return document{"application/jsonl", out.Bytes()}, j.Asked(r.Context(), actorOf(r.Context()), "audit export", "")
}

// limited refuses what no client would read.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, refuse("the audit of that time is over %d MB: ask for less with since and until, or run hookline audit export --journal", maxAnswer>>20)
	}
	return l.w.Write(p)
}

// Verify has the daemon compare its journal with the audit.
func (c *Client) Verify(ctx context.Context) (*journal.Verification, error) {
	return decode[journal.Verification](c.call(ctx, http.MethodGet, "/v1/audit/verify", auditTimeout, nil))
}

// Export returns the audit, one JSON object a line.
func (c *Client) Export(ctx context.Context, since, until time.Time) ([]byte, error) {
	v := url.Values{}
	setTime(v, "since", since)
	setTime(v, "until", until)
	path := "/v1/audit/export"
	if len(v) > 0 {
		path += "?" + v.Encode()
	}
	return c.call(ctx, http.MethodGet, path, auditTimeout, nil)
}
