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
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hookline/hookline/core/journal"
)

// Errors of a Client, beside the [Error] that the daemon answers.
var (
	// ErrNoDaemon means that nothing answers there.
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

// Address is where a daemon's admin API is.
type Address struct {
	Socket string // the path of its Unix socket; or
	// URL is its address over TCP: scheme, host and port. User and Password are those
	// of a user there.
	URL            *url.URL
	User, Password string
}

// ParseAddress reads the path of a Unix socket, which may have unix: before it, or an
// http:// or https:// address, which may hold a user and no password.
func ParseAddress(s string) (Address, error) {
	if !strings.HasPrefix(s, "http:") && !strings.HasPrefix(s, "https:") {
		path := s
		if rest, ok := strings.CutPrefix(s, "unix:"); ok {
			path = rest
			if after, double := strings.CutPrefix(rest, "//"); double {
				path = after
			}
		}
		if path == "" || strings.HasPrefix(s, "tcp:") {
			return Address{}, fmt.Errorf("%s is no address of a daemon: write the path of its admin socket, or https://USER@HOST:PORT", strconv.Quote(clip(s)))
		}
		return Address{Socket: path}, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "": // the error would quote it, with a password perhaps
		return Address{}, errors.New("the address of the daemon cannot be read: write https://USER@HOST:PORT")
	case hasPassword(u):
		return Address{}, errors.New("the address of the daemon must not hold a password, which every list of processes shows: write https://USER@HOST:PORT")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return Address{}, errors.New("the address of the daemon must end with its host and port: write https://USER@HOST:PORT")
	}
	return Address{URL: &url.URL{Scheme: u.Scheme, Host: u.Host}, User: u.User.Username()}, nil
}

func hasPassword(u *url.URL) bool {
	_, set := u.User.Password()
	return set
}

func (a Address) String() string {
	if a.URL != nil {
		return a.URL.String()
	}
	return a.Socket
}

// InTheOpen tells whether the password crosses a network without TLS.
func (a Address) InTheOpen() bool {
	if a.URL == nil || a.URL.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(a.URL.Hostname())
	return a.URL.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())
}

// Client calls a daemon's admin API. Its errors are [ErrNoDaemon], or the daemon's
// own as an [*Error].
type Client struct{ at Address }

// NewClient makes a client of the Unix socket at path.
func NewClient(path string) *Client { return Connect(Address{Socket: path}) }

// Connect makes a client of the API at an address. It connects at each call.
func Connect(a Address) *Client { return &Client{at: a} }

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
	pool := &http.Transport{DisableKeepAlives: true, TLSHandshakeTimeout: bodyTimeout}
	base := "http://admin"
	if c.at.URL != nil {
		base = c.at.URL.String()
	} else {
		pool.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.at.Socket)
		}
	}
	client := http.Client{
		Timeout:   limit + bodyTimeout, // the daemon's own limit comes first, and has words
		Transport: pool,
		// It has none, and another host must not get the password.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var body io.Reader
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return nil, err
	}
	if send != nil {
		req.Header.Set("Content-Type", mediaJSON)
	}
	if c.at.URL != nil && (c.at.User != "" || c.at.Password != "") {
		req.SetBasicAuth(c.at.User, c.at.Password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.unanswered(err)
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

// unanswered says why there is no answer.
func (c *Client) unanswered(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err // its URL is made up for a socket, and said again for TCP
	}
	var dial *net.OpError
	switch {
	case !errors.As(err, &dial) || dial.Op != "dial":
		return fmt.Errorf("the daemon on %s took the call and gave no answer: %w", c.at, err)
	case c.at.URL != nil:
		return fmt.Errorf("%w on %s (is it running, and is that a tcp:// address of its admin.listen?): %w", ErrNoDaemon, c.at, err)
	}
	return fmt.Errorf("%w on %s (is it running, under this user? Name its configuration with --config, or its socket or https:// address with --admin, if it is another): %w", ErrNoDaemon, c.at, err)
}
