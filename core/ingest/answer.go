package ingest

import (
	"encoding/json"
	"net/http"

	"github.com/hookline/hookline/core"
	"github.com/hookline/hookline/plugins/transport"
)

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
	challenge   = `Basic realm="Hookline", charset="UTF-8"`
	retryAfter  = "1" // seconds
)

// answer tells the caller what became of its event.
func (c *call) answer(a *core.Answer) {
	contentType := jsonType
	if a.Failed() {
		contentType = problemType
	}
	c.write(a.Status, contentType, append(a.AppendJSON(c.w.AvailableBuffer()), '\n'))
}

// write is the only place that writes an answer.
func (c *call) write(status int, contentType string, body []byte) {
	w := c.w
	if contentType != "" {
		w.Set("Content-Type", contentType)
	}
	w.Set("Cache-Control", "no-store")
	if c.ev != nil {
		w.Set("Hookline-Event-Id", c.ev.ID)
		w.Set("Hookline-Ref", c.ev.Ref)
	}
	c.answered = true
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// relayed returns the target's answer that the hook wants relayed, or nil where
// the caller is better served with ours: the target did not answer, or not in
// full; it has something against Hookline's own credentials or sends it
// elsewhere, which the caller can do nothing about; or it says success where this
// delivery is not confirmed (invariant 1) or that of another route failed.
func relayed(hook *core.Hook, outcomes []core.Outcome, answer *core.Answer) *transport.Receipt {
	if hook.Reply == "" {
		return nil
	}
	for i := range outcomes {
		o := &outcomes[i]
		if o.Route.Name != hook.Reply {
			continue
		}
		status := o.Receipt.TargetStatus
		switch {
		case o.Receipt.Truncated,
			status < 200, status > 599, status >= 300 && status < 400,
			status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired,
			status < 300 && (o.State != core.StateDelivered || answer.Failed()):
			return nil
		}
		return &o.Receipt
	}
	return nil
}

// relay passes the target's status, content type and body on, and no other
// header of it.
func (c *call) relay(r *transport.Receipt) {
	c.w.Set("X-Content-Type-Options", "nosniff")
	c.write(r.TargetStatus, r.ContentType, r.Body)
}

// health answers a probe.
func (c *call) health(status int, word, why string) {
	if m := c.r.Method; m != http.MethodGet && m != http.MethodHead {
		c.w.Set("Allow", "GET, HEAD")
		c.refuse(&refusal{
			code: core.MethodNotAllowed, why: "it was sent to the address of a health check",
			hint: "health checks use GET or HEAD; hooks are at /hooks/<name>", quiet: true,
		})
		return
	}
	text, _ := json.Marshal(struct { // strings always can be
		Status string `json:"status"`
		Why    string `json:"why,omitempty"`
	}{word, why})
	c.write(status, jsonType, append(text, '\n'))
}
