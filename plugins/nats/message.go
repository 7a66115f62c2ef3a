package nats

import (
	"fmt"
	"strconv"
	"strings"

	natsgo "github.com/nats-io/nats.go"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// message makes what is published. The error says why m can't be sent at all.
func (c *cluster) message(m *transport.Message) (*natsgo.Msg, error) {
	out := &natsgo.Msg{Subject: c.subject, Header: natsgo.Header{}, Data: m.Payload}
	if path := strings.Trim(m.Path, "/"); path != "" {
		out.Subject += "." + strings.ReplaceAll(path, "/", ".")
		if err := checkSubject(out.Subject); err != nil {
			return nil, fmt.Errorf("the subject with the message's path %w", err)
		}
	}
	if err := target.HeaderCount(m); err != nil {
		return nil, err
	}
	contentType := m.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	for name, value := range m.Headers {
		if err := target.HeaderName(name); err != nil {
			return nil, err
		}
		switch lower := strings.ToLower(name); {
		case reserved(lower):
			return nil, fmt.Errorf("the transform set header %s, which Hookline or NATS itself uses; remove it from the script", name)
		case lower == "content-type":
			contentType = value
		default:
			out.Header[name] = []string{value}
		}
	}
	for name, value := range map[string]string{
		"Content-Type": contentType, "webhook-id": m.ID, "hookline-event-id": m.EventID, "hookline-kind": m.Kind,
		"hookline-attempt": strconv.Itoa(m.Attempt), "traceparent": m.TraceParent,
	} {
		if value != "" {
			out.Header[name] = []string{value}
		}
	}
	for name, values := range out.Header {
		if err := target.HeaderValue(name, values[0]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// reserved tells whether Hookline or NATS owns a header: Nats-Rollup, for one, would
// delete what a stream has. name is in lower case.
func reserved(name string) bool {
	return transport.OwnHeader(name) || strings.HasPrefix(name, "nats-")
}
