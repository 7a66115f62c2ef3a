// Package credential checks the passwords of those who call: hooks and the admin
// API have one way to do it, with the same care for time and load.
package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// IsHash tells whether s is a whole bcrypt hash.
func IsHash(s string) bool {
	return len(s) == 60 && (strings.HasPrefix(s, "$2a$") || strings.HasPrefix(s, "$2b$") || strings.HasPrefix(s, "$2y$"))
}

// Verdict is what came of a check.
type Verdict int

// Verdicts.
const (
	Wrong Verdict = iota
	Right
	Busy // too many checks at once
)

// Checker compares passwords with bcrypt hashes. A flood of wrong passwords must
// not take the processor away from everything else, so few are compared at once.
type Checker struct {
	Turns   chan struct{} // holds as many as may be compared at once
	Wait    time.Duration // for a turn
	Compare func(hash, password []byte) error
}

// NewChecker makes a Checker that leaves half of the processors alone.
func NewChecker() *Checker {
	return &Checker{
		Turns:   make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		Wait:    time.Second,
		Compare: bcrypt.CompareHashAndPassword,
	}
}

// Check tells whether password is that of any of the hashes, and that of a user
// who is known. mark stands for all of the credentials; a right one is remembered
// in m. Of an unknown user all is compared as for a known one, so that time tells
// neither from the other.
func (c *Checker) Check(ctx context.Context, m *Memory, mark Mark, hashes [][]byte, password string, known bool) Verdict {
	if m.has(mark) {
		return Right
	}
	wait := time.NewTimer(c.Wait)
	defer wait.Stop()
	select {
	case c.Turns <- struct{}{}:
		defer func() { <-c.Turns }()
	case <-wait.C:
		return Busy
	case <-ctx.Done():
		return Busy
	}
	// After a reload a burst of calls waits here with the same credentials: the
	// first check is enough for all of them.
	if m.has(mark) {
		return Right
	}
	match := false
	for _, h := range hashes {
		match = c.Compare(h, []byte(password)) == nil || match
	}
	if !known || !match {
		return Wrong
	}
	m.add(mark)
	return Right
}

// maxMarks bounds what a memory holds. Only right credentials get in, so it is
// never reached but by a config with very many hooks.
const maxMarks = 1024

// Memory holds the credentials that bcrypt has found right, as HMACs under a key
// that dies with it: a password that was taken out of the config is forgotten at
// the reload, which makes a new one.
type Memory struct {
	macs  sync.Pool // of hash.Hash
	mu    sync.RWMutex
	marks map[Mark]struct{}
}

// Mark stands for credentials in one Memory, and says nothing of them.
type Mark [sha256.Size]byte

// NewMemory makes a Memory with a key of its own.
func NewMemory() *Memory {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails
	return &Memory{
		macs:  sync.Pool{New: func() any { return hmac.New(sha256.New, key) }},
		marks: map[Mark]struct{}{},
	}
}

// Mark is the mark of credentials: where they are for, the user, the password.
func (m *Memory) Mark(realm, user, password string) (out Mark) {
	mac := m.macs.Get().(hash.Hash)
	defer m.macs.Put(mac)
	mac.Reset()
	// The lengths keep ("ab", "c") and ("a", "bc") apart.
	text := make([]byte, 0, 256)
	for _, s := range [...]string{realm, user, password} {
		n := len(s)
		text = append(text, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		text = append(text, s...)
	}
	mac.Write(text)
	mac.Sum(out[:0])
	return out
}

func (m *Memory) has(k Mark) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, ok := m.marks[k]
	return ok
}

func (m *Memory) add(k Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.marks) >= maxMarks {
		clear(m.marks)
	}
	m.marks[k] = struct{}{}
}

// ParseBasic reads the value of an Authorization header. It takes base64 without
// padding, and credentials that are not UTF-8 as Latin-1, which is what .NET
// Framework sends.
func ParseBasic(value string) (user, password string, ok bool) {
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
