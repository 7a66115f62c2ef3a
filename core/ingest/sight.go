package ingest

// Sight is something at a hook that means more than its one call.
type Sight uint8

// The sights.
const (
	Came   Sight = iota // an event was taken in
	Denied              // the email or the password was wrong
	Gone                // the caller hung up before the answer
)

func (s *Server) saw(hook string, what Sight, ref string) {
	if s.opts.Saw != nil {
		s.opts.Saw(hook, what, ref)
	}
}
