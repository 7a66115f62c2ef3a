package main

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// sink is a stand-in for the external system: it prints what it receives and
// answers as it is told.
type sink struct {
	username, password string
	status             int
	delay              time.Duration
	hang               bool

	mu  sync.Mutex
	out io.Writer
	n   int
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
	if err != nil {
		return // the sender is gone
	}
	authorized := s.authorized(r)
	s.print(r, body, authorized)
	if !authorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="sink"`)
		http.Error(w, "wrong username or password", http.StatusUnauthorized)
		return
	}
	if s.hang {
		<-r.Context().Done()
		return
	}
	if s.delay > 0 {
		select {
		case <-time.After(s.delay):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(s.status)
	fmt.Fprintf(w, "{\"received\":%t}\n", s.status < 300)
}

func (s *sink) authorized(r *http.Request) bool {
	if s.username == "" && s.password == "" {
		return true
	}
	username, password, _ := r.BasicAuth()
	return subtle.ConstantTimeCompare([]byte(username+"\x00"+password), []byte(s.username+"\x00"+s.password)) == 1
}

func (s *sink) print(r *http.Request, body []byte, authorized bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	fmt.Fprintf(s.out, "  ▸ %s %s", r.Method, r.URL)
	switch username, _, ok := r.BasicAuth(); {
	case ok && authorized:
		fmt.Fprintf(s.out, "  (Basic auth as %s: right)", username)
	case ok:
		fmt.Fprintf(s.out, "  (Basic auth as %s: WRONG)", username)
	case r.Header.Get("Authorization") != "":
		fmt.Fprint(s.out, "  (with an Authorization header)") // its value is a secret
	default:
		fmt.Fprint(s.out, "  (no credentials)")
	}
	fmt.Fprintln(s.out)
	var names []string
	for name := range r.Header {
		if l := strings.ToLower(name); strings.HasPrefix(l, "webhook-") || strings.HasPrefix(l, "hookline-") || l == "content-type" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(s.out, "    %s: %s\n", strings.ToLower(name), r.Header.Get(name))
	}
	fmt.Fprintf(s.out, "    %s\n", strings.TrimSpace(string(body)))
}

func sinkCommand() *cobra.Command {
	var s sink
	var listen string
	c := &cobra.Command{
		Use: "sink", Short: "Stand in for the external system: print what arrives, answer as told", Args: noArgs,
		Long: `Stand in for the external system that the http transport calls: print what
arrives, bodies included, and answer as told. For trying and testing, not for real data.

Exit code 0: ended by you; 2: a wrong flag; 3: it cannot listen there.`,
		Example: "  hookline sink --username hookline --password file:examples/demo/ehr-password --status 500",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if s.status < 200 || s.status > 599 {
				return usage(fmt.Errorf("--status %d: must be between 200 and 599", s.status))
			}
			if s.password != "" && s.username == "" {
				return usage(errors.New("--password needs --username: without it the sink asks for neither"))
			}
			if s.password, err = resolve(s.password); err != nil {
				return usage(fmt.Errorf("--password: %w", err))
			}
			if _, _, err := net.SplitHostPort(listen); err != nil {
				return usage(fmt.Errorf("--listen %s: write host and port, such as 127.0.0.1:9090", listen))
			}
			s.out = c.OutOrStdout()
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("--listen: %w", err)
			}
			fmt.Fprintf(s.out, "waiting for events on http://%s\n", l.Addr())
			server := &http.Server{Handler: &s, ReadHeaderTimeout: 10 * time.Second}
			done := make(chan error, 1)
			go func() { done <- server.Serve(l) }()
			select {
			case err := <-done:
				return err
			case <-c.Context().Done():
				_ = server.Close()
				if err := <-done; !errors.Is(err, http.ErrServerClosed) {
					return err
				}
				return nil
			}
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:9090", "`ADDRESS` to listen on")
	f.StringVar(&s.username, "username", "", "ask for Basic auth with this username, `NAME`")
	f.StringVar(&s.password, "password", "", "and this `PASSWORD`, better as env:NAME or file:PATH")
	f.IntVar(&s.status, "status", http.StatusOK, "answer with this `STATUS`")
	f.DurationVar(&s.delay, "delay", 0, "wait for this `DURATION`, such as 5s, before the answer")
	f.BoolVar(&s.hang, "hang", false, "never answer")
	return c
}
