package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// maxAnswers bounds what a server may say in one attempt: its answers are read
// whole. TLS handshakes and certificates count.
const maxAnswers = 1 << 20

var errTooMuch = errors.New("the server says more than " + strconv.Itoa(maxAnswers) + " bytes")

// goodbye is how long the end of a connection may take: QUIT is a courtesy.
const goodbye = 250 * time.Millisecond

// past is a deadline that ends every read and write at once.
var past = time.Unix(1, 0)

// session is a connection on which the server has greeted and knows us.
type session struct {
	client *smtp.Client
	wire   *wire
	peer   string
	config *tls.Config // under which it was made
	kept   bool        // it was used before
}

// wire is the connection below TLS.
type wire struct {
	net.Conn
	left int // bytes that the server may still say
}

func (w *wire) Read(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, errTooMuch
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// until lets ctx end what happens on the wire. The result tells whether ctx has not
// done so yet, and can't any more.
func (w *wire) until(ctx context.Context) (release func() bool) {
	w.left = maxAnswers
	return context.AfterFunc(ctx, func() { _ = w.SetDeadline(past) })
}

// close says goodbye.
func (s *session) close() {
	s.wire.left = maxAnswers
	_ = s.wire.SetDeadline(time.Now().Add(goodbye))
	_ = s.client.Quit()
	s.drop()
}

func (s *session) drop() { _ = s.wire.Close() }

// A stepError is a connection that was made, and could not be used.
type stepError struct {
	step string // the command
	err  error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// A refusal is ours: what the server offers is not enough.
type refusal struct {
	code   transport.Code
	detail string
}

func (e *refusal) Error() string { return e.detail }

// take returns a kept connection that was made under the TLS of now, or nil.
func (t *Transport) take() *session {
	for {
		s, ok := t.idle.Take(time.Now())
		if !ok {
			return nil
		}
		if s.config == t.tls.Current() {
			s.kept = true
			return s
		}
		s.drop() // without QUIT: an attempt waits
	}
}

// connect makes a connection up to where MAIL may follow, within dial_timeout.
func (t *Transport) connect(ctx context.Context) (*session, error) {
	m := t.mail
	ctx, cancel := context.WithTimeout(ctx, m.dialer.Timeout)
	defer cancel()
	raw, err := m.dialer.DialContext(ctx, "tcp", m.addr)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: raw}
	s := &session{wire: w, peer: raw.RemoteAddr().String(), config: t.tls.Current()}
	release := w.until(ctx)
	err = m.open(ctx, s)
	if !release() && err == nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

// open greets, secures and authenticates.
func (m *mailbox) open(ctx context.Context, s *session) (err error) {
	// A name such as localhost may lead elsewhere.
	if ip, ok := s.wire.RemoteAddr().(*net.TCPAddr); m.security == securityNone && !m.allowPlaintext && (!ok || !ip.IP.IsLoopback()) {
		return &refusal{transport.AddressDenied, s.peer + " is not a loopback address, and security is none; set allow_plaintext if the way there is safe"}
	}
	conn := net.Conn(s.wire)
	if m.security == securityTLS {
		tc := tls.Client(s.wire, s.config)
		if err := tc.HandshakeContext(ctx); err != nil {
			return &target.HandshakeError{Peer: s.peer, Err: err}
		}
		conn = tc
	}
	if s.client, err = smtp.NewClient(conn, m.host); err != nil {
		return s.afterTLS("greeting", err)
	}
	// An address of ours is in ASCII: with the parameter a message could not be
	// passed on to a server that lacks the extension.
	s.client.SkipSMTPUTF8(true)
	if err := s.client.Hello(m.helo); err != nil {
		return &stepError{"EHLO", err}
	}
	if m.security == securitySTARTTLS {
		if ok, _ := s.client.Extension("STARTTLS"); !ok {
			return &refusal{transport.TLSError, s.peer + " offers no STARTTLS, and without it nothing is sent; set security to tls if it is a port for that"}
		}
		if err := s.client.StartTLS(s.config); err != nil {
			if _, answered := errors.AsType[*textproto.Error](err); answered {
				return &stepError{"STARTTLS", err}
			}
			return &target.HandshakeError{Peer: s.peer, Err: err}
		}
	}
	if m.username == "" {
		return nil
	}
	_, offered := s.client.Extension("AUTH")
	auth, err := m.authentication(strings.Fields(strings.ToUpper(offered)), s.peer)
	if err != nil {
		return err
	}
	if err := s.client.Auth(auth); err != nil {
		_, answered := errors.AsType[*textproto.Error](err)
		if answered || target.IsReset(err) || target.IsTimeout(err) {
			return &stepError{"AUTH", err}
		}
		return &refusal{transport.UnauthorizedByTarget, "AUTH with " + s.peer + ": the exchange failed; username, password and auth must be those that the server knows"}
	}
	return nil
}

// afterTLS is an error of the first read. In TLS 1.3 a server turns our certificate
// down after we think the handshake done.
func (s *session) afterTLS(step string, err error) error {
	if target.IsRefusedCertificate(err) {
		return &target.HandshakeError{Peer: s.peer, Err: err}
	}
	return &stepError{step, err}
}

// authentication is the mechanism of the settings, or the best that the server offers.
func (m *mailbox) authentication(offered []string, peer string) (smtp.Auth, error) {
	made := map[string]func() smtp.Auth{
		"SCRAM-SHA-256": func() smtp.Auth { return smtp.ScramSHA256Auth(m.username, m.password) },
		"SCRAM-SHA-1":   func() smtp.Auth { return smtp.ScramSHA1Auth(m.username, m.password) },
		"PLAIN":         func() smtp.Auth { return smtp.PlainAuth("", m.username, m.password, m.host, true) },
		"LOGIN":         func() smtp.Auth { return smtp.LoginAuth(m.username, m.password, m.host, true) },
		"XOAUTH2":       func() smtp.Auth { return smtp.XOAuth2Auth(m.username, m.password) },
	}
	want := []string{strings.ToUpper(m.auth)}
	if m.auth == authAuto {
		want = []string{"SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"}
	}
	for _, name := range want {
		for _, o := range offered {
			if o == name {
				return made[name](), nil
			}
		}
	}
	what := "one of " + strings.Join(want, ", ")
	if len(want) == 1 {
		what = want[0]
	}
	return nil, &refusal{transport.UnauthorizedByTarget, peer + " does not offer " + what + ", and username is set"}
}

// outcome is what came of a transaction.
type outcome struct {
	receipt  transport.Receipt
	reusable bool // the connection is in order
	stale    bool // a kept connection had ended before anything was sent on it
}

// ask makes a transaction up to the recipients, and takes it back.
func (s *session) ask(ctx context.Context, from string, to []string) (x outcome) {
	release := s.wire.until(ctx)
	defer release()
	if x, ok := s.envelope(ctx, from, to); !ok {
		return x
	}
	if err := s.client.Reset(); err != nil {
		return outcome{receipt: failure(ctx, s.peer, "RSET", transport.None, err)}
	}
	x.receipt.Effect = transport.Done
	return x
}

// send makes the transaction of one letter.
func (s *session) send(ctx context.Context, l *letter) (x outcome) {
	release := s.wire.until(ctx)
	defer func() {
		if !release() {
			x.reusable = false
		}
	}()
	if ok, param := s.client.Extension("SIZE"); ok {
		if limit, err := strconv.ParseInt(param, 10, 64); err == nil && limit > 0 && int64(len(l.text)) > limit {
			return outcome{reusable: true, receipt: transport.Failed(transport.None, transport.RejectedByTarget,
				"nothing was sent: the mail has "+strconv.Itoa(len(l.text))+" bytes, "+s.peer+" takes "+param)}
		}
	}
	if x, ok := s.envelope(ctx, l.from, l.to); !ok {
		return x
	}
	w, err := s.client.Data()
	if err != nil {
		return s.gaveUp(ctx, "DATA", transport.None, err)
	}
	// Without the final dot the server must throw away what it has (RFC 5321 4.1.1.4).
	if _, err := w.Write(l.text); err != nil {
		return outcome{receipt: failure(ctx, s.peer, "writing the mail", transport.None, err)}
	}
	if err := w.Close(); err != nil {
		return s.gaveUp(ctx, "after the mail", transport.Unknown, err) // Postfix wants RSET here too
	}
	return outcome{reusable: true, receipt: transport.Receipt{
		Effect: transport.Done, Code: transport.Delivered, TargetStatus: 250, Detail: s.peer + " has taken the mail",
	}}
}

// envelope tells sender and recipients. All are taken, or the transaction is taken
// back: a mail that some get and others don't could be neither repeated nor left.
func (s *session) envelope(ctx context.Context, from string, to []string) (x outcome, ok bool) {
	if err := s.client.Mail(from); err != nil {
		x := s.gaveUp(ctx, "MAIL FROM", transport.None, err)
		x.stale = s.kept && (x.receipt.TargetStatus == 0 || x.receipt.TargetStatus == closing)
		return x, false
	}
	for i, rcpt := range to {
		if err := s.client.Rcpt(rcpt); err != nil {
			step := stepRcpt
			if len(to) > 1 {
				step += " (recipient " + strconv.Itoa(i+1) + " of " + strconv.Itoa(len(to)) + ", so none gets it)"
			}
			return s.gaveUp(ctx, step, transport.None, err), false
		}
	}
	return outcome{}, true
}

// gaveUp is the outcome of a command that failed; effect is for the case that no
// answer came. It takes the transaction back, so that the connection can be used again.
func (s *session) gaveUp(ctx context.Context, step string, effect transport.Effect, err error) outcome {
	x := outcome{receipt: failure(ctx, s.peer, step, effect, err)}
	if x.receipt.TargetStatus != 0 && x.receipt.TargetStatus != closing {
		x.reusable = s.client.Reset() == nil
	}
	return x
}
