package config

import (
	"encoding"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

func (d *decoder) str(p path, value any, want string) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case text:
		return string(v), true
	}
	d.mismatch(p, want, value)
	return "", false
}

// str is one line of text.
func str(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if strings.ContainsFunc(s, unicode.IsControl) {
			d.fail(p, "must be one line, without control characters")
			return
		}
		*out = s
	}
}

// list is a list of strings; outside the file, its items are divided by commas.
func (d *decoder) list(p path, value any) ([]string, bool) {
	switch v := value.(type) {
	case text:
		return split(string(v)), true
	case string:
		d.fail(p, "must be a list: put the string in [ ]")
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				d.fail(p, "must be a list of strings, but item %d is %s", i+1, kindOf(item))
				return nil, false
			}
			items[i] = s
		}
		return items, true
	default:
		d.mismatch(p, "a list", value)
	}
	return nil, false
}

func split(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	items := strings.Split(s, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

func strs(out *[]string) field {
	return func(d *decoder, p path, value any) {
		// nil when it is empty, as if it were left out.
		if items, ok := d.list(p, value); ok {
			*out = append([]string(nil), items...)
		}
	}
}

// textual is a string that its type reads.
func textual(out encoding.TextUnmarshaler) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if err := out.UnmarshalText([]byte(s)); err != nil {
			d.fail(p, "%s", err)
		}
	}
}

// textuals is a list of which the type reads each item, and which means "all"
// when it is left out. written gets the items as they are, if it is not nil.
func textuals[T any, P interface {
	*T
	encoding.TextUnmarshaler
}](out *[]T, written *[]string) field {
	return func(d *decoder, p path, value any) {
		items, ok := d.list(p, value)
		if !ok {
			return
		}
		if len(items) == 0 {
			d.fail(p, "must not be empty: leave it out to match all")
			return
		}
		read := make([]T, len(items))
		for i, item := range items {
			if err := P(&read[i]).UnmarshalText([]byte(item)); err != nil {
				d.fail(p, "%s", err)
			}
		}
		*out = read
		if written != nil {
			*written = items
		}
	}
}

// choice is one of a few words.
func choice(set func(string), words ...string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if !slices.Contains(words, s) {
			d.fail(p, "%s is not a choice; use %s", quote(s), or(words))
			return
		}
		set(s)
	}
}

// either is one of two words, the first of which is false.
func either(out *bool, no, yes string) field {
	return choice(func(s string) { *out = s == yes }, no, yes)
}

// or lists words: "a, b or c".
func or(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func boolean(out *bool) field {
	return func(d *decoder, p path, value any) {
		switch value {
		case true, text("true"), text("1"):
			*out = true
		case false, text("false"), text("0"):
			*out = false
		default:
			if _, outside := value.(text); outside {
				d.fail(p, "must be true or false")
			} else {
				d.mismatch(p, "true or false without quotes", value)
			}
		}
	}
}

// negated is a key whose default is true.
func negated(out *bool) field {
	return func(d *decoder, p path, value any) {
		yes := !*out
		boolean(&yes)(d, p, value)
		*out = !yes
	}
}

func integer(out *int, least, most int) field {
	return func(d *decoder, p path, value any) {
		n, ok := value.(int64)
		if s, outside := value.(text); outside {
			var err error
			n, err = strconv.ParseInt(strings.TrimSpace(string(s)), 10, 64)
			if ok = err == nil; !ok {
				d.fail(p, "must be a whole number")
				return
			}
		}
		switch {
		case !ok:
			d.mismatch(p, "a whole number without quotes", value)
		case n < int64(least) || n > int64(most):
			d.fail(p, "must be between %d and %d", least, most)
		default:
			*out = int(n)
		}
	}
}

// number may have a fraction.
func number(out *float64, least, most float64) field {
	return func(d *decoder, p path, value any) {
		var n float64
		switch v := value.(type) {
		case int64:
			n = float64(v)
		case float64:
			n = v
		case text:
			var err error
			if n, err = strconv.ParseFloat(strings.TrimSpace(string(v)), 64); err != nil {
				d.fail(p, "must be a number")
				return
			}
		default:
			d.mismatch(p, "a number without quotes", value)
			return
		}
		if !(n >= least && n <= most) { // so that nan is refused too
			d.fail(p, "must be between %g and %s", least, strconv.FormatFloat(most, 'f', -1, 64))
			return
		}
		*out = n
	}
}

// day is what people think in; time has no such unit, for good reasons.
const day = 24 * time.Hour

// duration is more than nothing and at most most.
func duration(out *time.Duration, most time.Duration) field {
	return ranged(out, 1, most, "more than 0 and at most "+short(most))
}

// between includes its ends.
func between(out *time.Duration, least, most time.Duration) field {
	return ranged(out, least, most, "between "+short(least)+" and "+short(most))
}

func ranged(out *time.Duration, least, most time.Duration, rule string) field {
	const want = `a duration in quotes, such as "15s", "250ms" or "2m"`
	return func(d *decoder, p path, value any) {
		if n, ok := value.(int64); ok && n > 0 {
			d.fail(p, `must be %s, but is a number: write "%ds" if you mean seconds`, want, n)
			return
		}
		s, ok := d.str(p, value, want)
		if !ok {
			return
		}
		v, err := time.ParseDuration(strings.TrimSpace(s))
		switch {
		case err != nil:
			d.fail(p, "%s is not a duration: write a number with its unit, such as 15s, 250ms or 2m", quote(s))
		case v < least || v > most:
			d.fail(p, "must be %s", rule)
		default:
			*out = v
		}
	}
}

// short is a duration without its zeros: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if d > day && d%day == 0 {
		s = fmt.Sprintf("%s (%d days)", s, d/day)
	}
	return s
}

var (
	sizePattern = regexp.MustCompile(`^([0-9]{1,15}) ?([A-Za-z]*)$`)
	sizeUnits   = map[string]int64{
		"": 1, "b": 1,
		"kb": 1e3, "mb": 1e6, "gb": 1e9,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
	}
)

// size is a number of bytes, or a string with a unit.
func size(out *int64, least, most int64) field {
	const want = `a number of bytes, or a size such as "512KiB" or "1MiB"`
	return func(d *decoder, p path, value any) {
		n, ok := value.(int64)
		if !ok {
			s, isString := d.str(p, value, want)
			if !isString {
				return
			}
			if n, ok = parseSize(strings.TrimSpace(s)); !ok {
				d.fail(p, "%s is not a size: write a number of bytes, or a whole number with KB, MB, KiB or MiB", quote(s))
				return
			}
		}
		switch {
		case n >= least && n <= most:
			*out = n
		case least >= 1<<20:
			d.fail(p, "must be between %dMiB and %dGiB", least>>20, most>>30)
		case least > 0:
			d.fail(p, "must be more than 0 and at most %dMiB", most>>20)
		default:
			d.fail(p, "must be between 0 and %dGiB", most>>30)
		}
	}
}

func parseSize(s string) (int64, bool) {
	m := sizePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	unit, ok := sizeUnits[strings.ToLower(m[2])]
	n, err := strconv.ParseInt(m[1], 10, 64)
	if !ok || err != nil {
		return 0, false
	}
	if n > math.MaxInt64/unit {
		n, unit = math.MaxInt64, 1
	}
	return n * unit, true
}
