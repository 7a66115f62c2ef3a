package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hookline/hookline/core/journal"
)

// Errors of a Client, beside the [Error] that the daemon answers.
var (
	// ErrNoDaemon means that nothing answers on the admin socket.
	ErrNoDaemon = errors.New("no daemon answers")
	// ErrNotFound is the Error for what the journal does not hold.
	ErrNotFound = errors.New("not found")
	// ErrRefused is the Error for a call that is wrong in itself.
	ErrRefused = errors.New("refused")
)

// Is makes an Error an [ErrNotFound] or an [ErrRefused].
func (e *Error) Is(target error) bool {
	switch e.Status {
	case http.StatusNotFound:
		return target == ErrNotFound
	case http.StatusBadRequest:
		return target == ErrRefused
	}
	return false
}

// Client calls the daemon behind an admin socket. Its errors are [ErrNoDaemon],
// or the daemon's own as an [*Error].
type Client struct{ path string }

// NewClient makes a client of the socket at path.
func NewClient(path string) *Client { return &Client{path: path} }

// maxAnswer bounds what is read of an answer, in bytes: more than any page, and
// than the largest body that server.max_body allows.
const maxAnswer = 256 << 20

// Reload asks the daemon behind the socket at path to reload.
func Reload(ctx context.Context, path string) error { return NewClient(path).Reload(ctx) }

// Reload has the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/reload", reloadTimeout, struct{}{})
	return err
}

// Status asks how the daemon runs.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/v1/status", nil)
}

// Events lists events, the newest first.
func (c *Client) Events(ctx context.Context, f journal.EventFilter) (*EventPage, error) {
	return get[EventPage](ctx, c, "/v1/events", eventValues(f))
}

// Event returns an event by its id or its reference.
func (c *Client) Event(ctx context.Context, idOrRef string) (*EventDetail, error) {
	return get[EventDetail](ctx, c, "/v1/events/"+segment(idOrRef), nil)
}

// Body returns the bytes that came for an event.
func (c *Client) Body(ctx context.Context, idOrRef string) ([]byte, error) {
	return c.call(ctx, http.MethodGet, "/v1/events/"+segment(idOrRef)+"/body", callTimeout, nil)
}

// Explain returns all that is known of an event, with its contents.
func (c *Client) Explain(ctx context.Context, idOrRef string) (*Explanation, error) {
	return get[Explanation](ctx, c, "/v1/events/"+segment(idOrRef)+"/explain", nil)
}

// Deliveries lists deliveries, the newest first.
func (c *Client) Deliveries(ctx context.Context, f journal.DeliveryFilter) (*DeliveryPage, error) {
	return get[DeliveryPage](ctx, c, "/v1/deliveries", deliveryValues(f))
}

// Stuck lists those of them that wait for an operator: nothing sends them by
// itself, and their record's later events wait behind them.
func (c *Client) Stuck(ctx context.Context, f journal.DeliveryFilter) (*DeliveryPage, error) {
	v := deliveryValues(f)
	v.Set("stuck", "true")
	return get[DeliveryPage](ctx, c, "/v1/deliveries", v)
}

// Retry makes deliveries due.
func (c *Client) Retry(ctx context.Context, a Act) (*ActResults, error) {
	return decode[ActResults](c.call(ctx, http.MethodPost, "/v1/deliveries/retry", callTimeout, a))
}

// Cancel ends deliveries.
func (c *Client) Cancel(ctx context.Context, a Act) (*ActResults, error) {
	return decode[ActResults](c.call(ctx, http.MethodPost, "/v1/deliveries/cancel", callTimeout, a))
}

// segment makes s one part of a path: neither empty nor one that means a folder.
func segment(s string) string {
	switch s {
	case "", ".", "..":
		return "-"
	}
	return url.PathEscape(s)
}

func get[T any](ctx context.Context, c *Client, path string, v url.Values) (*T, error) {
	if len(v) > 0 {
		path += "?" + v.Encode()
	}
	return decode[T](c.call(ctx, http.MethodGet, path, callTimeout, nil))
}

func decode[T any](answer []byte, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	out := new(T)
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, fmt.Errorf("answer of the daemon: %w", err)
	}
	return out, nil
}

// call sends one request and returns the answer to a success.
func (c *Client) call(ctx context.Context, method, path string, limit time.Duration, send any) ([]byte, error) {
	client := http.Client{
		Timeout: limit + bodyTimeout, // the daemon's own limit comes first, and has words
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", c.path)
			},
		},
	}
	var body io.Reader
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, body)
	if err != nil {
		return nil, err
	}
	if send != nil {
		req.Header.Set("Content-Type", mediaJSON)
	}
	resp, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // the URL is made up
		}
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return nil, fmt.Errorf("%w on %s (is it running, under this user? Name its socket with --admin if it is another): %w", ErrNoDaemon, c.path, err)
		}
		return nil, fmt.Errorf("the daemon on %s took the call and gave no answer: %w", c.path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("answer of the daemon: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	var f failure
	if err := json.Unmarshal(answer, &f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("answer of the daemon: status %d without a reason", resp.StatusCode)
	}
	return nil, &Error{Status: resp.StatusCode, Text: f.Error}
}
