package amqp

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/hookline/hookline/plugins/target"
)

const (
	// heartbeat is how often both sides show that they live; after three half ones
	// without a frame the connection counts as broken.
	heartbeat = 10 * time.Second
	frameMax  = 128 << 10 // RabbitMQ's own default
	// closeWait is how long an orderly end of a connection may take.
	closeWait = time.Second
)

// link is a connection with its channels.
type link struct {
	*amqp091.Connection
	tls     *tls.ConnectionState // nil: no TLS
	blocked atomic.Bool          // the broker takes no messages: memory or disk is short

	slots chan struct{} // one for each channel in use, or being opened or closed
	mu    sync.Mutex
	idle  []*channel
	work  sync.WaitGroup
}

// channel is used by one attempt at a time.
type channel struct {
	*amqp091.Channel
	returned chan amqp091.Return
	ended    chan *amqp091.Error
}

// connect makes a connection and logs in, until ctx ends.
func (b *broker) connect(ctx context.Context) (*link, error) {
	raw, err := b.dialer.DialContext(ctx, "tcp", b.addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	l, err := b.open(ctx, raw)
	if !stop() && err == nil { // ctx has ended, and raw was closed
		l.close()
		err = ctx.Err()
	}
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			err = ctx.Err() // and not that the connection was closed
		}
		return nil, err
	}
	return l, nil
}

func (b *broker) open(ctx context.Context, raw net.Conn) (*link, error) {
	l := &link{}
	conn := raw
	if cfg := b.tls.Current(); cfg != nil {
		secure := tls.Client(raw, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, &target.HandshakeError{Peer: raw.RemoteAddr().String(), Err: err}
		}
		state := secure.ConnectionState()
		l.tls, conn = &state, secure
	}
	properties := amqp091.Table{"product": "Hookline", "version": b.version, "platform": "Go", "connection_name": "hookline"}
	c, err := amqp091.Open(conn, amqp091.Config{
		SASL:  []amqp091.Authentication{&login{amqp091.PlainAuth{Username: b.username, Password: b.password}, properties}},
		Vhost: b.vhost, ChannelMax: uint16(b.channels), FrameSize: frameMax, Heartbeat: heartbeat,
		Properties: properties, Locale: "en_US",
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	l.Connection = c
	l.slots = make(chan struct{}, min(b.channels, int(c.Config.ChannelMax)))
	blocks := c.NotifyBlocked(make(chan amqp091.Blocking, 1)) // closed with the connection
	l.work.Go(func() {
		for state := range blocks {
			l.blocked.Store(state.Active)
		}
	})
	return l, nil
}

// login is PLAIN, and asks the broker to say so if it refuses: amqp091 does not, and
// could then not tell a wrong password from a broker that went away.
type login struct {
	amqp091.PlainAuth
	properties amqp091.Table
}

// Response is called once the capabilities are set and before they are sent.
func (a *login) Response() string {
	if capabilities, ok := a.properties["capabilities"].(amqp091.Table); ok {
		capabilities["authentication_failure_close"] = true
	}
	return a.PlainAuth.Response()
}

func (l *link) alive() bool { return !l.IsClosed() }

// close ends the connection in an orderly way if the broker answers in time.
func (l *link) close() {
	_ = l.CloseDeadline(time.Now().Add(closeWait)) // the connection is gone either way
	l.work.Wait()
}

// take is a channel that nobody else uses: an idle one, or a new one once there may be
// one more.
func (l *link) take(ctx context.Context) (*channel, error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := l.takeIdle(); c != nil {
		return c, nil
	}
	type opened struct {
		c   *channel
		err error
	}
	got := make(chan opened, 1)
	l.work.Go(func() {
		c, err := l.channel()
		got <- opened{c, err}
	})
	select {
	case o := <-got:
		if o.err != nil {
			<-l.slots
		}
		return o.c, o.err
	case <-ctx.Done():
		l.work.Go(func() {
			if o := <-got; o.err == nil {
				l.put(o.c)
			} else {
				<-l.slots
			}
		})
		return nil, ctx.Err()
	}
}

func (l *link) takeIdle() *channel {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.idle) > 0 {
		c := l.idle[len(l.idle)-1]
		l.idle = l.idle[:len(l.idle)-1]
		if !c.IsClosed() {
			return c
		}
	}
	return nil
}

// channel opens one on which the broker confirms.
func (l *link) channel() (*channel, error) {
	ch, err := l.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		_ = ch.Close() // it is of no use
		return nil, err
	}
	// Each message has at most one return and each channel one end, so nobody ever
	// waits to put them here.
	return &channel{
		Channel:  ch,
		returned: ch.NotifyReturn(make(chan amqp091.Return, 1)),
		ended:    ch.NotifyClose(make(chan *amqp091.Error, 1)),
	}, nil
}

// put gives back a channel on which nothing is outstanding.
func (l *link) put(c *channel) {
	if !c.IsClosed() {
		l.mu.Lock()
		l.idle = append(l.idle, c)
		l.mu.Unlock()
	}
	<-l.slots
}

// abandon closes a channel whose confirmation nobody waits for any more: it could be
// taken for that of the next message. A broker that hangs makes this take as long as
// the connection lasts.
func (l *link) abandon(c *channel) {
	l.work.Go(func() {
		_ = c.Close()
		<-l.slots
	})
}
