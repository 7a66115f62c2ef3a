package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hookline/hookline/core/credential"
)

// permission is what a call needs. One may have several.
type permission uint8

const (
	see  permission = 1 << iota // ids, states, times, codes
	read                        // contents too: what may hold data of patients. It is told who saw what
	act                         // change something

	everything = see | read | act
)

// Role is what a user of the API over TCP may do.
type Role string

// Roles. None has all: who acts need not read, and who reads need not act.
const (
	Viewer   Role = "viewer"
	Auditor  Role = "auditor"
	Operator Role = "operator"
)

// roles is all that there is to know of them.
var roles = []struct {
	role Role
	may  permission
}{
	{Viewer, see},
	{Auditor, see | read},
	{Operator, see | act},
}

func (r Role) may() permission {
	for _, known := range roles {
		if known.role == r {
			return known.may
		}
	}
	return 0
}

// rolesWith names the roles that have all of p.
func rolesWith(p permission) string {
	var names []string
	for _, known := range roles {
		if known.may&p == p {
			names = append(names, string(known.role))
		}
	}
	return strings.Join(names, " or ")
}

// caller is who calls.
type caller struct {
	actor string // as the log and the journal name him
	role  Role   // "" on the Unix socket
	may   permission
}

// allows refuses what the caller's role does not have.
func (c caller) allows(p permission) error {
	if c.may&p == p {
		return nil
	}
	return &Error{Status: http.StatusForbidden, Text: fmt.Sprintf("the role %s may not do this: it needs the role %s", c.role, rolesWith(p))}
}

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// callerOf is who calls; one of whom nothing is known may do nothing.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

// peer is who calls on the Unix socket: whoever can open it may do everything.
func peer(_ http.ResponseWriter, r *http.Request) (caller, error) {
	actor, _ := r.Context().Value(peerKey{}).(string)
	return caller{actor: actor, may: everything}, nil
}

// User may call over TCP.
type User struct {
	Name string
	Role Role
	Hash string // of the password, bcrypt
}

// users are those in force.
type users struct {
	all    []account
	memory *credential.Memory
}

type account struct {
	User
	name   [sha256.Size]byte
	hashes [][]byte
}

func newUsers(all []User) *users {
	u := &users{memory: credential.NewMemory()}
	for _, user := range all {
		u.all = append(u.all, account{User: user, name: sha256.Sum256([]byte(user.Name)), hashes: [][]byte{[]byte(user.Hash)}})
	}
	return u
}

// find returns the account with the name. For an unknown one it is any other's, the
// same each time: comparing a password with that takes as long as for a known user.
func (u *users) find(name string) (a *account, known bool) {
	digest := sha256.Sum256([]byte(name))
	mark := u.memory.Mark("unknown", name, "")
	at := int(binary.BigEndian.Uint32(mark[:]) % uint32(len(u.all)))
	found := 0
	for i := range u.all {
		same := subtle.ConstantTimeCompare(digest[:], u.all[i].name[:])
		at = subtle.ConstantTimeSelect(same, i, at)
		found |= same
	}
	return &u.all[at], found == 1
}

// actorPrefix keeps a user of the configuration apart from one of the system, in
// what the log and the journal say of who did something.
const actorPrefix = "tcp:"

// Use puts users in the place of those before: a password that is gone is good for
// no further call.
func (s *Server) Use(all []User) { s.users.Store(newUsers(all)) }

// maxPassword is all that bcrypt looks at, in bytes: what is longer only begins
// like the right one.
const maxPassword = 72

// login finds out who calls over TCP.
func (s *Server) login(w http.ResponseWriter, r *http.Request) (caller, error) {
	challenge := func(text string) error {
		w.Header().Set("WWW-Authenticate", `Basic realm="Hookline", charset="UTF-8"`)
		return &Error{Status: http.StatusUnauthorized, Text: text}
	}
	const hint = "send the name and the password of one of the users in [admin.users] with HTTP Basic authentication"
	values, u := r.Header.Values("Authorization"), s.users.Load()
	if len(values) == 0 {
		return caller{}, challenge("who are you? " + hint)
	}
	name, password, ok := "", "", len(values) == 1
	if ok {
		name, password, ok = credential.ParseBasic(values[0])
	}
	if !ok || len(u.all) == 0 {
		return caller{}, challenge("the Authorization header cannot be used: " + hint)
	}
	a, known := u.find(name)
	known = known && len(password) <= maxPassword
	switch s.checker.Check(r.Context(), u.memory, u.memory.Mark("admin", name, password), a.hashes, password, known) {
	case credential.Right:
		return caller{actor: actorPrefix + a.Name, role: a.Role, may: a.Role.may()}, nil
	case credential.Busy:
		w.Header().Set("Retry-After", "1")
		return caller{}, &Error{Status: http.StatusTooManyRequests, Text: "too many passwords are being checked at the moment: try again; the log says who sends wrong ones"}
	}
	user := "" // What is no name of ours may be a password in the wrong field
	if known {
		user = a.Name
	}
	s.failures.note(s.log, time.Now(), user, r.RemoteAddr)
	return caller{}, challenge("the name or the password is wrong: " + hint)
}

// sayAgain is how often, at most, refused logins are logged.
const sayAgain = 10 * time.Second

// failures are refused logins, of which the log is not to be flooded.
type failures struct {
	mu     sync.Mutex
	said   time.Time
	silent int // refused since then
}

func (f *failures) note(log *slog.Logger, now time.Time, user, remote string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.said.IsZero() && now.Sub(f.said) < sayAgain {
		f.silent++
		return
	}
	if host, _, err := net.SplitHostPort(remote); err == nil {
		remote = host
	}
	if user == "" {
		user = "(unknown)"
	}
	log.Warn("a call of the admin API had a wrong name or password", "user", user, "remote", remote, "others_since_the_last_such_line", f.silent)
	f.said, f.silent = now, 0
}
