package mllp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/hookline/hookline/plugins/target"
)

// A frame of MLLP (HL7 Minimal Lower Layer Protocol, release 1).
const (
	startBlock = 0x0b // VT
	endBlock   = 0x1c // FS
	endData    = '\r'
)

// refusalWait is how long Check waits for a receiver to turn our certificate down: in
// TLS 1.3 that comes after our side of the handshake has ended.
const refusalWait = 250 * time.Millisecond

var (
	errNotMLLP = errors.New("the answer does not begin with a start block (VT)")
	errTLSPort = errors.New("the target speaks TLS on this port; set tls")
	errTooLong = errors.New("the answer is longer than max_reply")
	errUnasked = errors.New("the target said something unasked")
)

// conn is a connection to the receiver. One attempt owns it at a time. A reader of
// its own notices at once when the other side closes it.
type conn struct {
	raw    net.Conn
	rw     net.Conn    // raw, or TLS above it
	config *tls.Config // nil for plain TCP
	peer   string
	wrote  atomic.Int64 // bytes that the kernel took

	frames chan []byte   // answers; room for one
	gone   chan struct{} // closed when nothing more will come
	err    error         // why; after gone
	idle   *time.Timer   // closes it, nil while it is in use
	forget func()        // tells the transport that it is closed
}

// countingConn counts what surely may have left, below TLS.
type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// dial connects, and shakes hands if TLS is set.
func (t *Transport) dial(ctx context.Context) (*conn, error) {
	raw, err := t.dialer.DialContext(ctx, "tcp", t.link.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{raw: raw, peer: raw.RemoteAddr().String(), config: t.tls.Current(), frames: make(chan []byte, 1), gone: make(chan struct{})}
	c.rw = countingConn{raw, &c.wrote}
	if c.config != nil {
		tc := tls.Client(c.rw, c.config)
		shake, cancel := context.WithTimeout(ctx, t.dialer.Timeout)
		defer cancel()
		if err := tc.HandshakeContext(shake); err != nil {
			_ = raw.Close()
			return nil, &target.HandshakeError{Peer: c.peer, Err: err}
		}
		c.rw = tc
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	t.open[c] = struct{}{}
	t.dialled.Add(1)
	c.forget = func() {
		t.mu.Lock()
		delete(t.open, c)
		t.mu.Unlock()
	}
	t.reading.Go(func() { c.read(t.link.maxReply) })
	return c, nil
}

// read takes what comes until the connection ends.
func (c *conn) read(limit int) {
	defer close(c.gone)
	br := bufio.NewReaderSize(c.rw, 4<<10)
	for first := true; ; first = false {
		frame, err := readFrame(br, limit, first)
		if err != nil {
			c.err = err
			return
		}
		select {
		case c.frames <- frame:
		default:
			c.err = errUnasked
			_ = c.raw.Close()
			return
		}
	}
}

// readFrame reads one frame's content. It ends with FS: a CR that should follow is
// not waited for, and is skipped before the next frame, as are other line ends.
func readFrame(br *bufio.Reader, limit int, first bool) ([]byte, error) {
	for {
		b, err := br.ReadByte()
		switch {
		case err != nil:
			return nil, err
		case b == startBlock:
			return readBlock(br, limit)
		case b == 0x15 && first: // a TLS alert
			return nil, errTLSPort
		case b != '\r' && b != '\n':
			return nil, errNotMLLP
		}
	}
}

func readBlock(br *bufio.Reader, limit int) (frame []byte, err error) {
	for {
		part, err := br.ReadSlice(endBlock)
		if len(frame)+len(part) > limit+1 {
			return nil, errTooLong
		}
		frame = append(frame, part...)
		if err == nil {
			return frame[:len(frame)-1], nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("within an answer: %w", err)
		}
	}
}

// usable tells whether an unused connection is open, silent, and made under cfg. It
// belongs to the caller then.
func (c *conn) usable(cfg *tls.Config) bool {
	if c.idle != nil && !c.idle.Stop() {
		return false
	}
	c.idle = nil
	select {
	case <-c.gone:
		return false
	case <-c.frames: // an answer to nothing: the next could be taken for ours
		return false
	default:
		return c.config == cfg
	}
}

// rest leaves the connection unused, for at most that long.
func (c *conn) rest(within time.Duration) {
	c.idle = time.AfterFunc(within, func() { _ = c.raw.Close() })
}

// close also ends the reader. A TLS farewell could block on a target that does not
// read.
func (c *conn) close() {
	_ = c.raw.Close()
	c.forget()
}

// exchange is what came of one message on one connection.
type exchange struct {
	ack  *ack
	err  error // why there is none
	sent bool  // some of the message left
	keep bool  // the connection can be used again
	peer string
	tls  bool
	// accepted: it was committed (CA), and the application's word was waited for.
	accepted bool
}

// exchange sends the message and waits for its acknowledgement. When ctx ends the
// connection does too: a later answer would be taken for the next message's.
func (c *conn) exchange(ctx context.Context, m *message, l *link) (x exchange) {
	x.peer, x.tls = c.peer, c.config != nil
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	before := c.wrote.Load()
	_, err := c.rw.Write(m.frame)
	x.sent = c.wrote.Load() > before
	if err != nil {
		// The reader may know better why: a refused certificate, a reset.
		x.err = err
		_ = c.raw.Close()
		<-c.gone
		if c.err != nil && !errors.Is(c.err, net.ErrClosed) {
			x.err = c.err
		}
		stop()
		return x
	}
	for {
		select {
		case frame := <-c.frames:
			x.ack, x.err = parseAck(frame, m.controlID)
		case <-c.gone:
			select {
			case frame := <-c.frames: // the answer came, and then the end
				x.ack, x.err = parseAck(frame, m.controlID)
			default:
				x.err = c.err
			}
		}
		if x.err == nil && x.ack.code == "CA" && l.application && m.wantsApplication {
			x.accepted, x.ack = true, nil
			continue
		}
		break
	}
	undisturbed := stop()
	// An application's word that comes after CA, and that nobody waits for, must not
	// be taken for the next message's.
	late := x.ack != nil && x.ack.code == "CA" && m.wantsApplication
	x.keep = undisturbed && x.err == nil && !late
	return x
}

// awaitRefusal returns nil if the receiver said nothing for a moment.
func (c *conn) awaitRefusal(ctx context.Context) error {
	if c.config == nil || c.config.GetClientCertificate == nil {
		return nil
	}
	timer := time.NewTimer(refusalWait)
	defer timer.Stop()
	select {
	case <-c.gone:
		return c.err
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// certificates tells when they expire.
func (c *conn) certificates(source *target.TLSSource) string {
	tc, ok := c.rw.(*tls.Conn)
	if !ok {
		return ""
	}
	var s string
	if peers := tc.ConnectionState().PeerCertificates; len(peers) > 0 {
		s = "; the target's certificate expires on " + target.Date(peers[0].NotAfter)
	}
	if get := c.config.GetClientCertificate; get != nil {
		if cert, err := get(nil); err == nil && cert.Leaf != nil {
			s += "; our client certificate expires on " + target.Date(cert.Leaf.NotAfter)
		}
	}
	if err := source.Trouble(); err != nil {
		s += "; the files changed, but the earlier ones are in use: " + err.Error()
	}
	return s
}
