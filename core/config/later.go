package config

// What DESIGN promises and this version has not got. Each key is known, so that
// nobody is told "did you mean", and refused, so that nobody believes it works.
// When a feature arrives, its lines here become fields in sections.go.

// laterKey is a key that waits for a feature.
type laterKey struct {
	now    any    // the one value that says what happens already, or nil
	reason string // what is missing, and what to write instead
}

const noJournal = "needs the journal, which this version does not have"

var later = map[string]map[string]laterKey{
	"admin": {
		"users": {nil, "this version has the admin API on a Unix socket only, where the user is the one who connects: remove it"},
	},
	"hooks": {
		"accepted_status": {nil, noJournal + ": nothing is accepted to be delivered later, the answer is 200 or an error. Remove it"},
	},
	"routes": {
		"mode":       {"sync", `only "sync" works: delivering in the background ` + noJournal + `. Write "sync" or remove it`},
		"on_timeout": {"fail", `only "fail" works: going on after the answer ` + noJournal + `. Write "fail" or remove it`},
		"on_failure": {"stop", `only "stop" works: trying again after the answer ` + noJournal + `. Write "stop" or remove it`},
		"on_dead":    {"continue", `only "continue" works: holding a record's later events ` + noJournal + `. Write "continue" or remove it`},
		"on_unknown": {nil, noJournal + ": a delivery without an answer is reported to the caller and not sent again. Remove it"},
		"on_blocked": {nil, noJournal + ": no event waits behind another. Remove it"},
		"retry":      {nil, noJournal + ": beside one retry within 2 seconds, nothing is sent again. Remove it"},
		"enrich":     {false, "only false works: this version cannot fetch a record from TrialKit. Write false or remove it"},
	},
}

// withLater adds the section's keys that wait for a feature.
func withLater(section string, fs fields) fields {
	for key, k := range later[section] {
		fs[key] = k.decode
	}
	return fs
}

// isLater tells whether the key should not be offered to anyone yet.
func isLater(key string) bool {
	for _, keys := range later {
		if _, ok := keys[key]; ok {
			return true
		}
	}
	return key == "journal"
}

func (k laterKey) decode(d *decoder, p path, value any) {
	if s, ok := value.(text); ok {
		value = string(s)
		if s == "false" {
			value = false
		}
	}
	switch value.(type) {
	case string, bool:
		if k.now != nil && value == k.now {
			return
		}
	}
	d.fail(p, "%s", k.reason)
}

// journalLater refuses the table as a whole, once.
func journalLater(d *decoder, p path, _ any) {
	d.fail(p, "this version keeps no journal yet: remove [journal]. Until it does, an event that cannot be delivered within its hook's timeout is answered with an error and not kept")
}
