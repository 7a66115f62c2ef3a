package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Endpoint is an endpoint, for the tests that walk all of them.
type Endpoint struct {
	Method, Path string
	Needs        []string
	List         bool
}

// Endpoints are those that a server has.
func Endpoints() (out []Endpoint) {
	for _, e := range (&api{Options{Metrics: http.NotFoundHandler()}}).endpoints() {
		var needs []string
		for p, name := range map[permission]string{see: "see", read: "read", act: "act"} {
			if e.needs&p != 0 {
				needs = append(needs, name)
			}
		}
		slices.Sort(needs)
		out = append(out, Endpoint{Method: e.method, Path: e.path, Needs: needs, List: e.list})
	}
	return out
}

// OpenAPI is the document as it is served.
func OpenAPI() []byte { return openAPIText }

// WithHeaderTimeout is o with a shorter patience for headers.
func WithHeaderTimeout(o Options, d time.Duration) Options {
	o.headerTimeout = d
	return o
}

// Checks replaces how a server compares passwords, how many at once, and for how
// long one waits for its turn.
func (s *Server) Checks(turns int, wait time.Duration, compare func(hash, password []byte) error) {
	s.checker.Turns, s.checker.Wait, s.checker.Compare = make(chan struct{}, turns), wait, compare
}

// TagsOf is what a struct's field says of who may see it.
func TagsOf(tag string) bool { return strings.Contains(tag, accessTag+`:"`+needsRead+`"`) }
