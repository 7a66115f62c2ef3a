package mqtt

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v5 "github.com/eclipse/paho.golang/packets"

	"github.com/hookline/hookline/plugins/target"
)

// closeWait is how long an orderly end of a connection may take.
const closeWait = time.Second

var (
	// errTooLarge is a message that is over a limit that the broker named.
	errTooLarge = errors.New("the broker does not take it")
	// errSilent is a broker that said nothing for the keepalive, though asked.
	errSilent = errors.New("the broker is silent")
	// errMute is a broker that is there and answers no message any more.
	errMute = errors.New("the broker acknowledges no message")
)

// link is a connection that is logged in. One goroutine writes what attempts hand
// over, one reads what the broker says.
type link struct {
	raw       net.Conn // below conn, if that is TLS
	conn      net.Conn
	r         *bufio.Reader
	tls       *tls.ConnectionState // nil: no TLS
	limits    limits
	keepalive time.Duration

	slots   chan struct{} // one for each message that the broker has not answered
	out     chan *flight  // without a buffer: what is taken may have been sent
	control chan []byte   // packets without a message
	pinged  atomic.Bool   // asked, and nothing heard since
	ended   chan struct{} // closed once err is set
	work    sync.WaitGroup

	mu      sync.Mutex
	flights map[uint16]*flight
	last    uint16 // packet identifier
	err     error  // why the connection ended
	alone   bool   // when it ended, one message was under way
}

// flight is a message from its packet identifier to the broker's answer, which may
// come when nobody waits for it any more.
type flight struct {
	id       uint16
	packet   []byte
	answer   chan byte // the reason code; has room for it
	qos      byte
	sent     bool // or being sent
	left     bool // nobody waits for the answer any more
	begun    time.Time
	released bool // QoS 2: PUBREC has come, PUBREL is on its way
}

// connect makes a connection and logs in, until ctx ends.
func (b *broker) connect(ctx context.Context, clientID string) (*link, error) {
	raw, err := b.dialer.DialContext(ctx, "tcp", b.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	l, err := b.login(ctx, raw, clientID)
	if !stop() || err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // and not that the connection was closed
		}
		return nil, err
	}
	l.work.Go(l.write)
	l.work.Go(l.read)
	return l, nil
}

func (b *broker) login(ctx context.Context, raw net.Conn, clientID string) (*link, error) {
	l := &link{raw: raw, conn: raw, ended: make(chan struct{}), out: make(chan *flight), flights: make(map[uint16]*flight)}
	if cfg := b.tls.Current(); cfg != nil {
		secure := tls.Client(raw, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, &target.HandshakeError{Peer: raw.RemoteAddr().String(), Err: err}
		}
		state := secure.ConnectionState()
		l.tls, l.conn = &state, secure
	}
	l.r = bufio.NewReader(l.conn)
	if clientID == "" {
		// Every broker must take 23 letters and digits.
		clientID = ("hookline" + rand.Text())[:23]
	}
	// The answer may tell why a broker did not take all of it.
	_, writeErr := l.conn.Write(b.connectPacket(clientID))
	var err error
	if l.limits, err = b.readConnack(l.r); err != nil {
		return nil, b.turnedAway(raw, err)
	}
	if writeErr != nil {
		return nil, &loginError{writeErr}
	}
	switch {
	case l.limits.qos < b.qos:
		return nil, &refusal{code: v5.ConnackQoSNotSupported}
	case b.retain && !l.limits.retain:
		return nil, &refusal{code: v5.ConnackRetainNotSupported}
	}
	if l.keepalive = l.limits.keepalive; l.keepalive == 0 {
		l.keepalive = b.keepalive
	}
	l.slots = make(chan struct{}, l.limits.inFlight)
	l.control = make(chan []byte, l.limits.inFlight+2) // a PUBREL for each, a ping and the end
	return l, nil
}

// turnedAway knows a broker that does not want our certificate: in TLS 1.3 it says so
// after our side of the handshake has ended.
func (b *broker) turnedAway(raw net.Conn, err error) error {
	if b.tls != nil && target.IsRefusedCertificate(err) {
		return &target.HandshakeError{Peer: raw.RemoteAddr().String(), Err: err}
	}
	return &loginError{err}
}

// loginError is a connection that was made, and ended before the broker's answer.
type loginError struct{ error }

func (e *loginError) Unwrap() error { return e.error }

func (l *link) alive() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// fail ends the connection, for the reason of the first call.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	under := 0
	for _, f := range l.flights {
		if f.sent {
			under++
		}
	}
	l.err, l.alone = err, under == 1
	close(l.ended)
	_ = l.raw.Close()
}

// close says goodbye, if the broker takes it in time, and ends the connection.
func (l *link) close() {
	late := time.AfterFunc(closeWait, func() { l.fail(net.ErrClosed) })
	defer late.Stop()
	select {
	case l.control <- disconnect:
	default: // the broker has not read for long
		l.fail(net.ErrClosed)
	}
	l.work.Wait()
}

// send hands p over to be written once there is a turn for it. An error means that
// nothing was sent.
func (l *link) send(ctx context.Context, p *publication) (*flight, error) {
	if len(l.slots) == cap(l.slots) {
		l.notMute()
	}
	select {
	case l.slots <- struct{}{}:
	case <-l.ended:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f := &flight{answer: make(chan byte, 1), qos: p.qos}
	l.mu.Lock()
	for f.id == 0 || l.flights[f.id] != nil {
		l.last++
		f.id = l.last
	}
	l.flights[f.id] = f
	l.mu.Unlock()
	f.packet = p.packet(f.id)
	if size := len(f.packet); uint64(size) > uint64(l.limits.packet) {
		l.forget(f)
		return nil, fmt.Errorf("%w: the packet has %d bytes, and its limit is %d", errTooLarge, size, l.limits.packet)
	}
	select {
	case l.out <- f:
		return f, nil
	case <-l.ended:
		l.forget(f)
		return nil, net.ErrClosed
	case <-ctx.Done():
		l.forget(f)
		return nil, ctx.Err()
	}
}

// leave notes that nobody waits for f's answer any more. Its turn stays taken: the
// broker may still be at it.
func (l *link) leave(f *flight) {
	l.mu.Lock()
	f.left = true
	l.mu.Unlock()
}

// notMute ends a connection whose turns are all held by messages that were given up
// and not answered for the keepalive: it would publish nothing any more, for as long as
// the broker answers pings.
func (l *link) notMute() {
	l.mu.Lock()
	mute := len(l.flights) == cap(l.slots)
	for _, f := range l.flights {
		mute = mute && f.left && time.Since(f.begun) > l.keepalive
	}
	l.mu.Unlock()
	if mute {
		l.fail(errMute)
	}
}

// forget gives back the identifier and the turn of f.
func (l *link) forget(f *flight) {
	l.mu.Lock()
	delete(l.flights, f.id)
	l.mu.Unlock()
	<-l.slots
}

// write sends what it is given, and asks the broker twice in a keepalive whether it
// is there.
func (l *link) write() {
	w := bufio.NewWriterSize(l.conn, 16<<10)
	tick := time.NewTicker(l.keepalive / 2)
	defer tick.Stop()
	for {
		var packet []byte
		select {
		case <-l.ended:
			return
		case packet = <-l.control:
		case f := <-l.out:
			packet = l.begin(f)
		case <-tick.C:
			if l.pinged.Swap(true) {
				l.fail(errSilent)
				return
			}
			packet = pingreq
		}
		for packet != nil {
			if err := l.put(w, packet); err != nil {
				l.fail(err)
				return
			}
			if packet[0] == disconnect[0] {
				_ = w.Flush() // it is the end either way
				l.fail(net.ErrClosed)
				return
			}
			select { // what waits goes with it
			case packet = <-l.control:
			case f := <-l.out:
				packet = l.begin(f)
			default:
				packet = nil
			}
		}
		if err := w.Flush(); err != nil {
			l.fail(stuck(err))
			return
		}
	}
}

// put writes a packet in pieces: a long one may take its time, but a broker that takes
// nothing for the keepalive is gone.
func (l *link) put(w *bufio.Writer, packet []byte) error {
	for piece := range slices.Chunk(packet, 64<<10) {
		if err := l.conn.SetWriteDeadline(time.Now().Add(l.keepalive)); err != nil {
			return err
		}
		if _, err := w.Write(piece); err != nil {
			return stuck(err)
		}
	}
	return nil
}

// begin notes that f may have been sent.
func (l *link) begin(f *flight) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.sent, f.begun = true, time.Now()
	packet := f.packet
	f.packet = nil // it may be long, and its answer late
	return packet
}

func stuck(err error) error {
	if target.IsTimeout(err) {
		return errSilent
	}
	return err
}

// read takes the broker's answers until the connection ends.
func (l *link) read() {
	for {
		kind, body, err := readPacket(l.r)
		if err == nil {
			l.pinged.Store(false)
			err = l.heard(kind, body)
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

func (l *link) heard(kind byte, body []byte) error {
	switch kind {
	case v5.PINGRESP:
		return nil
	case v5.DISCONNECT:
		r := &refusal{}
		if len(body) > 0 {
			r.code, r.status = body[0], int(body[0])
		}
		return r
	case v5.PUBACK, v5.PUBREC, v5.PUBCOMP:
	default:
		return errProtocol(fmt.Sprintf("a packet of type %d, which nobody asked for", kind))
	}
	id, code, err := acknowledgement(body)
	if err != nil {
		return err
	}
	l.mu.Lock()
	f := l.flights[id]
	if f == nil || !f.sent || (kind == v5.PUBACK) != (f.qos == 1) || (kind == v5.PUBCOMP) != f.released {
		l.mu.Unlock()
		return errProtocol(fmt.Sprintf("an acknowledgement of type %d, which is out of place", kind))
	}
	if kind == v5.PUBREC && code < 0x80 {
		f.released = true
		l.mu.Unlock()
		select {
		case l.control <- pubrel(id):
		case <-l.ended:
		}
		return nil
	}
	l.mu.Unlock()
	f.answer <- code
	l.forget(f)
	return nil
}
