package http1_test

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/hookline/hookline/core/http1"
)

// updater is a TLS 1.3 caller that asks for new keys, which Go's own never does. What it
// sends is made here; what it is sent, crypto/tls reads.
type updater struct {
	raw    net.Conn
	in     *bufio.Reader
	chacha bool // as processors without AES choose, in the place of AES-128
	secret []byte
	number uint64
}

func newUpdater(t *testing.T, raw net.Conn, trusting *tls.Config) *updater {
	t.Helper()
	var keys strings.Builder
	trusting.KeyLogWriter = &keys
	c := tls.Client(raw, trusting)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	suite := c.ConnectionState().CipherSuite
	if suite != tls.TLS_AES_128_GCM_SHA256 && suite != tls.TLS_CHACHA20_POLY1305_SHA256 {
		t.Fatalf("TLS chose %s, which the test does not speak: teach it", tls.CipherSuiteName(suite))
	}
	_, secret, _ := strings.Cut(keys.String(), "CLIENT_TRAFFIC_SECRET_0 ")
	b, err := hex.DecodeString(strings.Fields(secret)[1])
	if err != nil {
		t.Fatal(err)
	}
	return &updater{raw: raw, in: bufio.NewReader(c), chacha: suite == tls.TLS_CHACHA20_POLY1305_SHA256, secret: b}
}

// expand is HKDF-Expand-Label (RFC 8446 section 7.1).
func (u *updater) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append(binary.BigEndian.AppendUint16(nil, uint16(n)), byte(len(label)))
	b, err := hkdf.Expand(sha256.New, u.secret, string(info)+label+"\x00", n)
	if err != nil {
		panic(err) // the lengths are ours
	}
	return b
}

func (u *updater) cipher() (cipher.AEAD, error) {
	if u.chacha {
		return chacha20poly1305.New(u.expand("key", chacha20poly1305.KeySize))
	}
	block, err := aes.NewCipher(u.expand("key", 16))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// record appends one (RFC 8446 section 5.2).
func (u *updater) record(b []byte, kind byte, text string) []byte {
	seal, err := u.cipher()
	if err != nil {
		panic(err) // the lengths are ours
	}
	nonce := u.expand("iv", 12)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^u.number)
	u.number++
	inner := append([]byte(text), kind)
	head := []byte{23, 3, 3, 0, byte(len(inner) + seal.Overhead())}
	return seal.Seal(append(b, head...), nonce, inner, head)
}

func (u *updater) data(b []byte, text string) []byte { return u.record(b, 23, text) }

// update appends a key update that wants one back.
func (u *updater) update(b []byte) []byte {
	b = u.record(b, 22, "\x18\x00\x00\x01\x01")
	u.secret, u.number = u.expand("traffic upd", 32), 0
	return b
}

// narrow accepts connections that take little of what is not read.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

// Who has TLS answer, and does not read it, does not keep a connection.
func TestUnreadKeyUpdates(t *testing.T) {
	t.Parallel()
	secure, trusting := certificate(t)
	s := start(t, nil, func(s *http1.Server) { s.HeaderTimeout, s.IdleTimeout = time.Second, time.Second })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(tls.NewListener(narrow{l}, secure)) }()
	defer func() { l.Close(); <-ended }()
	s.addr = l.Addr().String()
	raw := s.dial(t)
	_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
	u := newUpdater(t, raw, trusting)
	var b []byte
	for _, c := range "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", 600) {
		b = u.data(b, string(c)) // crypto/tls takes 16 in a row without data
		for range 15 {
			b = u.update(b)
		}
	}
	go func() { _, _ = raw.Write(b) }()
	for begun := time.Now(); s.Open() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second { // TLS's farewell alone may take 5
			t.Fatal("the connection is still held")
		}
	}
}

// A key update after a long rest does not meet the deadline of the answer before it.
func TestKeyUpdateAfterRest(t *testing.T) {
	t.Parallel()
	secure, trusting := certificate(t)
	const write = 500 * time.Millisecond
	s := start(t, secure, func(s *http1.Server) { s.WriteTimeout = write })
	u := newUpdater(t, s.dial(t), trusting)
	const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, b := range [][]byte{u.data(nil, get), u.data(u.update(nil), get)} {
		if _, err := u.raw.Write(b); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(u.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
			t.Fatalf("%s, %v", body, err)
		}
		time.Sleep(write + write/4)
	}
}
