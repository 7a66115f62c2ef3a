package trialkit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hookline/hookline/core"
)

// newHTTPClient follows no redirect, which would take the credentials along, asks no
// proxy of the environment, and speaks HTTP/1.1.
func newHTTPClient(secure *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig: secure, TLSHandshakeTimeout: dialTimeout,
			MaxConnsPerHost: maxConns, MaxIdleConnsPerHost: maxConns, IdleConnTimeout: idleTimeout,
			MaxResponseHeaderBytes: maxHeaders,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// get makes one request. The error is a *[core.EnrichError].
func (a *api) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/"+path, http.NoBody)
	if err != nil { // url and path were checked
		return nil, &core.EnrichError{Text: a.key("url") + " and the path make no URL", Hopeless: true}
	}
	req.Header = a.header.Clone()
	req.SetBasicAuth(a.Email, a.Password)
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, a.unreachable(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, a.refused(resp)
	}
	if resp.ContentLength > a.MaxReply {
		return nil, a.tooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, a.MaxReply+1))
	switch {
	case err != nil:
		return nil, a.unreachable(ctx, err)
	case int64(len(body)) > a.MaxReply:
		return nil, a.tooLarge()
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if rule := core.CheckJSON(body); rule != "" {
		return nil, &core.EnrichError{
			Text:     fmt.Sprintf("what TrialKit's API answered, with status %d, %s: do %s and record_path lead to the API, and not to a page for people?", resp.StatusCode, rule, a.key("url")),
			Hopeless: true,
		}
	}
	return body, nil
}

func (a *api) tooLarge() error {
	return &core.EnrichError{Text: fmt.Sprintf("what TrialKit's API answered is larger than %s, %d bytes", a.key("max_reply"), a.MaxReply), Hopeless: true}
}

// unreachable is the error of a request without an answer. Of err's own text nothing
// is told: net/http quotes in it what came.
func (a *api) unreachable(ctx context.Context, err error) error {
	out := &core.EnrichError{}
	var clock *core.Expired
	var dns *net.DNSError
	var dial *net.OpError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(context.Cause(ctx), &clock) && ctx.Err() != nil:
		out.Text, out.Err, out.Hopeless = "TrialKit's API did not answer in time", clock, true
	case ctx.Err() != nil:
		out.Text = "the reading was ended, as this daemon stops or its configuration has changed"
	case errors.As(err, &dns):
		out.Text = "the host of " + a.key("url") + " does not resolve"
	case errors.Is(err, syscall.ECONNREFUSED):
		out.Text = "nothing accepts connections at the address of " + a.key("url")
	case errors.As(err, &unknown):
		out.Text = "the certificate of TrialKit's API is of no authority that is trusted: " + a.key("ca_file") + " names one"
	case errors.As(err, &name):
		out.Text = "the certificate of TrialKit's API is for another host than that of " + a.key("url")
	case errors.As(err, &cert), errors.As(err, &record):
		out.Text = "no secure connection to " + a.key("url") + " can be made: does it speak TLS, and is its certificate valid?"
	case errors.As(err, &dial) && dial.Op == "dial":
		out.Text = "the address of " + a.key("url") + " cannot be reached"
	default:
		out.Text = "the connection to " + a.key("url") + " broke off, or what came is not HTTP"
	}
	return out
}

// refused is the error of an answer that is no success.
func (a *api) refused(resp *http.Response) error {
	out := &core.EnrichError{Hopeless: true}
	says := "TrialKit's API answered " + strconv.Itoa(resp.StatusCode)
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized:
		out.Text = fmt.Sprintf("%s, it does not accept the credentials: check %s, password and access_key", says, a.key("email"))
	case code == http.StatusForbidden:
		out.Text = fmt.Sprintf("%s: check %s and access_key_header, and what the API user may read", says, a.key("access_key"))
	case code == http.StatusNotFound, code == http.StatusGone:
		out.Text = fmt.Sprintf("%s: it does not know what is asked for. Check %s and record_path, and the default study of the API user", says, a.key("url"))
	case code >= 300 && code < 400:
		out.Text = fmt.Sprintf("%s: redirects are not followed, put the final address into %s", says, a.key("url"))
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		out.Text, out.Hopeless = says+": it is too busy", false
		out.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	case code >= 500:
		out.Text, out.Hopeless = says+", an error of its own", false
	default:
		out.Text = fmt.Sprintf("%s: check %s and record_path", says, a.key("url"))
	}
	return out
}

// maxRetryAfter keeps a strange answer from putting a delivery off for ever.
const maxRetryAfter = time.Hour

// retryAfter reads the header's seconds or its date, 0 for neither.
func retryAfter(s string) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(strings.TrimSpace(s)); err == nil {
		d = time.Duration(min(n, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), maxRetryAfter)
}
