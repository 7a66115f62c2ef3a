package config

// What DESIGN promises and this version has not got. Each key is known, so that
// nobody is told "did you mean", and refused, so that nobody believes it works.
// When a feature arrives, its lines here become fields in sections.go.

// laterKey is a key that waits for a feature.
type laterKey struct {
	now    any    // the one value that says what happens already, or nil
	reason string // what is missing, and what to write instead
}

var later = map[string]map[string]laterKey{
	"routes": {
		"enrich": {false, "only false works: this version cannot fetch a record from TrialKit. Write false or remove it"},
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
	return false
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
