package ingest

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// door is a hook with its lock.
type door struct {
	*Hook
	email  [sha256.Size]byte
	plain  [][sha256.Size]byte
	hashed [][]byte // bcrypt
	memory *memory
	caller *caller
}

func newDoor(h *Hook, m *memory, c *caller) *door {
	d := &door{Hook: h, email: sha256.Sum256([]byte(h.Email)), memory: m, caller: c}
	for _, p := range h.Passwords {
		if isBcrypt(p) {
			d.hashed = append(d.hashed, []byte(p))
		} else {
			d.plain = append(d.plain, sha256.Sum256([]byte(p)))
		}
	}
	return d
}

// open tells whether nobody has to prove anything.
func (d *door) open() bool { return d.Anonymous && len(d.Passwords) == 0 }

func isBcrypt(s string) bool {
	return len(s) == 60 && (strings.HasPrefix(s, "$2a$") || strings.HasPrefix(s, "$2b$") || strings.HasPrefix(s, "$2y$"))
}

// verdict is what came of a check of credentials.
type verdict int

const (
	wrong verdict = iota
	right
	busy // too many checks at once
)

// check compares in constant time, and does for an unknown user all that it does
// for a wrong password, so that time tells neither from the other.
func (s *Server) check(ctx context.Context, d *door, email, password string) verdict {
	e, p := sha256.Sum256([]byte(email)), sha256.Sum256([]byte(password))
	known := subtle.ConstantTimeCompare(e[:], d.email[:])
	match := 0
	for i := range d.plain {
		match |= subtle.ConstantTimeCompare(p[:], d.plain[i][:])
	}
	if known&match == 1 {
		return right
	}
	if len(d.hashed) == 0 {
		return wrong
	}
	return s.checkHashed(ctx, d, email, password, known == 1)
}

func (s *Server) checkHashed(ctx context.Context, d *door, email, password string, known bool) verdict {
	mark := d.memory.mark(d.Name, email, password)
	if d.memory.has(mark) {
		return right
	}
	wait := time.NewTimer(s.bcryptWait)
	defer wait.Stop()
	select {
	case s.bcrypt <- struct{}{}:
		defer func() { <-s.bcrypt }()
	case <-wait.C:
		return busy
	case <-ctx.Done():
		return busy
	}
	// After a reload a burst of calls waits here with the same credentials: the
	// first check is enough for all of them.
	if d.memory.has(mark) {
		return right
	}
	match := false
	for _, h := range d.hashed {
		match = s.compare(h, []byte(password)) == nil || match
	}
	if !known || !match {
		return wrong
	}
	d.memory.add(mark)
	return right
}

// maxMarks bounds what a memory holds. Only right credentials get in, so it is
// never reached but by a config with very many hooks.
const maxMarks = 1024

// memory holds the credentials that bcrypt has found right, as HMACs under a key
// that dies with the set: a password that was taken out of the config is
// forgotten at the reload.
type memory struct {
	macs  sync.Pool // of hash.Hash
	mu    sync.RWMutex
	marks map[mark]struct{}
}

type mark [sha256.Size]byte

func newMemory() *memory {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails
	return &memory{
		macs:  sync.Pool{New: func() any { return hmac.New(sha256.New, key) }},
		marks: map[mark]struct{}{},
	}
}

func (m *memory) mark(hook, email, password string) (out mark) {
	mac := m.macs.Get().(hash.Hash)
	defer m.macs.Put(mac)
	mac.Reset()
	// The lengths keep ("ab", "c") and ("a", "bc") apart.
	text := make([]byte, 0, 256)
	for _, s := range [...]string{hook, email, password} {
		n := len(s)
		text = append(text, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		text = append(text, s...)
	}
	mac.Write(text)
	mac.Sum(out[:0])
	return out
}

func (m *memory) has(k mark) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.marks[k]
	return ok
}

func (m *memory) add(k mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.marks) >= maxMarks {
		clear(m.marks)
	}
	m.marks[k] = struct{}{}
}

// parseBasic reads the value of an Authorization header. It takes base64 without
// padding, and credentials that are not UTF-8 as Latin-1, which is what .NET
// Framework sends.
func parseBasic(value string) (email, password string, ok bool) {
	scheme, encoded, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	encoded = strings.TrimRight(strings.Trim(encoded, " \t"), "=")
	raw, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return "", "", false
	}
	text := string(raw)
	if !utf8.ValidString(text) {
		runes := make([]rune, len(raw))
		for i, b := range raw {
			runes[i] = rune(b)
		}
		text = string(runes)
	}
	return strings.Cut(text, ":")
}
