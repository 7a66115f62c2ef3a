package ingest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/hookline/hookline/core/credential"
)

// door is a hook with its lock.
type door struct {
	*Hook
	email  [sha256.Size]byte
	plain  [][sha256.Size]byte
	hashed [][]byte // bcrypt
	memory *credential.Memory
	caller *caller
}

func newDoor(h *Hook, m *credential.Memory, c *caller) *door {
	d := &door{Hook: h, email: sha256.Sum256([]byte(h.Email)), memory: m, caller: c}
	for _, p := range h.Passwords {
		if credential.IsHash(p) {
			d.hashed = append(d.hashed, []byte(p))
		} else {
			d.plain = append(d.plain, sha256.Sum256([]byte(p)))
		}
	}
	return d
}

// open tells whether nobody has to prove anything.
func (d *door) open() bool { return d.Anonymous && len(d.Passwords) == 0 }

// check compares in constant time, and does for an unknown user all that it does
// for a wrong password, so that time tells neither from the other.
func (s *Server) check(ctx context.Context, d *door, email, password string) credential.Verdict {
	e, p := sha256.Sum256([]byte(email)), sha256.Sum256([]byte(password))
	known := subtle.ConstantTimeCompare(e[:], d.email[:])
	match := 0
	for i := range d.plain {
		match |= subtle.ConstantTimeCompare(p[:], d.plain[i][:])
	}
	if known&match == 1 {
		return credential.Right
	}
	if len(d.hashed) == 0 {
		return credential.Wrong
	}
	return s.checker.Check(ctx, d.memory, d.memory.Mark(d.Name, email, password), d.hashed, password, known == 1)
}
