package main

import (
	"bytes"
	"net"
	"strconv"
	"sync/atomic"
)

// target is the external system: it answers with as little work as possible, so
// that it does not slow down what is measured, and checks every body and
// credential.
type target struct {
	expect atomic.Pointer[expectation]
	watch  atomic.Pointer[watch]
	n      counts
}

type expectation struct {
	Body          *template `json:"body"`
	Authorization string    `json:"authorization"`
}

// counts are what arrived, or what was sent. Their difference must be nothing.
type counts struct {
	events, bytes, ids, wrong atomic.Uint64
}

// tally is a reading of counts. IDs is the sum of the record numbers: an event
// that came twice instead of another would change it.
type tally struct {
	Events uint64 `json:"events"`
	Bytes  uint64 `json:"bytes"`
	IDs    uint64 `json:"ids"`
	Wrong  uint64 `json:"wrong"` // body or credentials differ from what is expected
}

func (a tally) minus(b tally) tally {
	return tally{a.Events - b.Events, a.Bytes - b.Bytes, a.IDs - b.IDs, a.Wrong - b.Wrong}
}

// failPath is where the target answers 500.
const (
	okPath   = "/trialkit"
	failPath = "/fail"
)

var (
	okAnswer           = answerBytes("200 OK", `{"ok":true}`)
	failAnswer         = answerBytes("500 Internal Server Error", `{"ok":false}`)
	unauthorizedAnswer = answerBytes("401 Unauthorized", `{"ok":false}`)
)

func answerBytes(status, body string) []byte {
	return []byte("HTTP/1.1 " + status + "\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
}

func (t *target) operations() operations {
	return operations{
		"listen": operation(func(none) (string, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return "", err
			}
			go t.accept(l)
			return l.Addr().String(), nil
		}),
		"expect": operation(func(e expectation) (none, error) {
			t.expect.Store(&e)
			return none{}, nil
		}),
		"watch": operation(func(s watchSpec) (none, error) {
			w := newWatch(s)
			if old := t.watch.Load(); s.Go && old != nil {
				w.seen = old.seen
			}
			t.watch.Store(w)
			return none{}, nil
		}),
		"watched": operation(func(none) (watched, error) {
			if w := t.watch.Load(); w != nil {
				return w.read(), nil
			}
			return watched{}, nil
		}),
		"count": operation(func(none) (tally, error) {
			return tally{t.n.events.Load(), t.n.bytes.Load(), t.n.ids.Load(), t.n.wrong.Load()}, nil
		}),
	}
}

func (t *target) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			t.serve(c)
		}()
	}
}

// serve answers the requests of one connection, until it ends or is not HTTP as
// we understand it.
func (t *target) serve(c net.Conn) {
	buf := make([]byte, 0, 16<<10)
	for {
		head, size := 0, 0
		var authorization []byte
		for {
			if head == 0 {
				if i := bytes.Index(buf, headEnd); i >= 0 {
					head = i + len(headEnd)
					size, authorization = headers(buf[:head])
				}
			}
			if head > 0 && len(buf) >= head+size {
				break
			}
			if len(buf) == cap(buf) || head > 0 && size < 0 {
				return
			}
			n, err := c.Read(buf[len(buf):cap(buf)])
			if n == 0 && err != nil {
				return
			}
			buf = buf[:len(buf)+n]
		}
		if _, err := c.Write(t.answer(buf[:head], buf[head:head+size], authorization)); err != nil {
			return
		}
		buf = buf[:copy(buf, buf[head+size:])]
	}
}

func (t *target) answer(head, body, authorization []byte) []byte {
	if _, path, _ := bytes.Cut(head, []byte(" ")); bytes.HasPrefix(path, []byte(failPath+" ")) {
		return failAnswer
	}
	t.n.events.Add(1)
	t.n.bytes.Add(uint64(len(body)))
	e := t.expect.Load()
	if e == nil || string(authorization) != e.Authorization {
		t.n.wrong.Add(1)
		return unauthorizedAnswer
	}
	id, ok := e.Body.match(body)
	if !ok {
		t.n.wrong.Add(1)
	}
	t.n.ids.Add(id)
	if w := t.watch.Load(); w != nil {
		w.saw(id)
	}
	return okAnswer
}

var headEnd = []byte("\r\n\r\n")

// headers finds the two that matter here; size is -1 if it is not told.
func headers(head []byte) (size int, authorization []byte) {
	size = -1
	for len(head) > 0 {
		i := bytes.IndexByte(head, '\n')
		line := bytes.TrimRight(head[:i], "\r")
		head = head[i+1:]
		colon := bytes.IndexByte(line, ':')
		switch {
		case colon == len("Content-Length") && bytes.EqualFold(line[:colon], []byte("Content-Length")):
			n, err := strconv.Atoi(string(bytes.TrimSpace(line[colon+1:])))
			if err == nil && n >= 0 {
				size = n
			}
		case colon == len("Authorization") && bytes.EqualFold(line[:colon], []byte("Authorization")):
			authorization = bytes.TrimSpace(line[colon+1:])
		}
	}
	return size, authorization
}
