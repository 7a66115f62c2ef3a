// Package standin is a stand-in for TrialKit's API, as far as that is known: it gives
// records at form/7/<trans_id> to who has the API user's password and the access key.
// Tests, and people who try Hookline, let it fail as they like.
package standin

import (
	"crypto/subtle"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is what is wrong with the API.
type Fault string

// The faults.
const (
	None         Fault = ""
	Slow         Fault = "slow"         // it answers after a minute
	Unauthorized Fault = "unauthorized" // it takes no password
	Forbidden    Fault = "forbidden"    // it does not take the access key
	OtherStudy   Fault = "other-study"  // the API user's default study is another one: the record is of form 9999
	Broken       Fault = "broken"       // it answers 500
	Busy         Fault = "busy"         // it answers 503, with Retry-After
	Huge         Fault = "huge"         // the record is 20 MB long
	NotJSON      Fault = "not-json"     // it shows a page for people
	Redirect     Fault = "redirect"     // it has moved
	Cut          Fault = "cut"          // the answer breaks off
)

// Faults are all of them but None.
var Faults = []Fault{Slow, Unauthorized, Forbidden, OtherStudy, Broken, Busy, Huge, NotJSON, Redirect, Cut}

const slowness = time.Minute

// API is the stand-in. Its fields are set before it is used.
type API struct {
	Email, Password string
	Header          string // of the access key
	AccessKey       string
	Records         fs.FS                    // <trans_id>.json
	Log             func(what string, n int) // told of each request and its status; nil: nobody is
	Before          func(path string, n int) // called before the nth request is answered; nil: nothing is
	mu              sync.Mutex
	fault           Fault
	paths           []string
}

// Fail sets what is wrong from now on; None mends it.
func (a *API) Fail(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = f
}

// Paths are those of the requests so far.
func (a *API) Paths() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.paths)
}

// ServeHTTP answers a request. POST /fault?is=NAME sets a fault, without a password.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := &status{ResponseWriter: w, code: http.StatusOK}
	a.serve(status, r)
	if a.Log != nil {
		a.Log(r.Method+" "+r.URL.Path, status.code)
	}
}

type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) { s.code = code; s.ResponseWriter.WriteHeader(code) }

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/fault" {
		a.setFault(w, r)
		return
	}
	a.mu.Lock()
	fault := a.fault
	a.paths = append(a.paths, r.URL.Path)
	n := len(a.paths)
	a.mu.Unlock()
	if a.Before != nil {
		a.Before(r.URL.Path, n)
	}
	email, password, _ := r.BasicAuth()
	id, isRecord := strings.CutPrefix(r.URL.Path, "/form/7/")
	switch fault {
	case Slow:
		select {
		case <-time.After(slowness):
		case <-r.Context().Done():
			return
		}
	case Broken:
		http.Error(w, "Object reference not set to an instance of an object.", http.StatusInternalServerError)
		return
	case Busy:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	case NotJSON:
		fmt.Fprint(w, "<html><title>Log in to TrialKit</title></html>")
		return
	case Redirect:
		http.Redirect(w, r, "/elsewhere"+r.URL.Path, http.StatusFound)
		return
	}
	switch {
	case fault == Unauthorized || !same(email, a.Email) || !same(password, a.Password):
		w.Header().Set("WWW-Authenticate", `Basic realm="TrialKit API"`)
		http.Error(w, "wrong email or password", http.StatusUnauthorized)
		return
	case fault == Forbidden || !same(r.Header.Get(a.Header), a.AccessKey):
		http.Error(w, "wrong access key", http.StatusForbidden)
		return
	case r.Method != http.MethodGet:
		http.Error(w, "only GET is known here", http.StatusMethodNotAllowed)
		return
	case !isRecord || strings.Contains(id, "/"):
		http.NotFound(w, r)
		return
	}
	record, err := fs.ReadFile(a.Records, id+".json")
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch fault {
	case OtherStudy:
		fmt.Fprintf(w, `{"trans_id":%q,"form_id":"9999","form_name":"Another study's form"}`, id)
	case Huge:
		_, _ = io.WriteString(w, `{"form_id":"319","padding":"`)
		for range 20 {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<20)); err != nil {
				return // it hung up, and rightly so
			}
		}
		_, _ = io.WriteString(w, `"}`)
	case Cut:
		w.Header().Set("Content-Length", fmt.Sprint(len(record)))
		_, _ = w.Write(record[:len(record)/2])
	default:
		_, _ = w.Write(record)
	}
}

func (a *API) setFault(w http.ResponseWriter, r *http.Request) {
	f := Fault(r.URL.Query().Get("is"))
	if r.Method != http.MethodPost || f != None && !slices.Contains(Faults, f) {
		http.Error(w, fmt.Sprintf("POST /fault?is=NAME, where NAME is one of %s, or nothing to mend it", Faults), http.StatusBadRequest)
		return
	}
	a.Fail(f)
	w.WriteHeader(http.StatusNoContent)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
