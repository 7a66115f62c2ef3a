package admin

import (
	"context"
	"net/http"
)

// Quarantined is a script that is not run any more, as it cost its process too often.
type Quarantined struct {
	Script string `json:"script"` // as in the configuration: "transforms/ehr.js"
	Hash   string `json:"hash"`   // SHA-256 of the version that is meant, in hex
	Since  Time   `json:"since"`
	Why    string `json:"why"`
}

// Release asks for a script to be run again.
type Release struct {
	Script string `json:"script"`
	Reason string `json:"reason,omitempty"`
}

// Released are the scripts that are run again.
type Released struct {
	Released []Quarantined `json:"released"`
}

// Releaser lets a script run again, and returns nothing for one that is not in
// quarantine.
type Releaser func(ctx context.Context, script string) ([]Quarantined, error)

func (a *api) releaseScript(r *http.Request) (any, error) {
	var call Release
	if err := readBody(r, &call, `{"script": "transforms/ehr.js", "reason": "..."}`); err != nil {
		return nil, err
	}
	if call.Script == "" {
		return nil, refuse("script is missing: name it as the configuration does, such as transforms/ehr.js; /v1/status lists those in quarantine")
	}
	if call.Reason != "" {
		if err := goodReason(call.Reason); err != nil {
			return nil, err
		}
	}
	actor := actorOf(r.Context())
	if !a.inQuarantine(call.Script) {
		return nil, &Error{Status: http.StatusNotFound, Text: shown(call.Script) + " is not in quarantine: `hookline alerts` and /v1/status list what is"}
	}
	if a.Journal != nil {
		if err := a.Journal.Asked(r.Context(), actor, "release script "+call.Script, call.Reason); err != nil {
			return nil, err
		}
	}
	released, err := a.Release(r.Context(), call.Script)
	if err != nil {
		return nil, err
	}
	out := Released{Released: released}
	a.Log.Info("a script was released from quarantine", "actor", actor, "script", call.Script)
	return out, nil
}

func (a *api) inQuarantine(script string) bool {
	if a.Release == nil {
		return false
	}
	for _, q := range a.Status().Quarantined {
		if q.Script == script {
			return true
		}
	}
	return false
}

// ReleaseScript has a script in quarantine run again.
func (c *Client) ReleaseScript(ctx context.Context, call Release) (*Released, error) {
	return decode[Released](c.call(ctx, http.MethodPost, "/v1/transforms/release", callTimeout, call))
}
