package transforms

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// dateParts are what a text says; -1 or nil: nothing of it.
type dateParts struct {
	year, month, day, yearDay    int
	weekday                      int
	hour, hour12, half           int
	minute, second, milliseconds int
	offset                       *int // seconds east of UTC
}

// parse reads a text, all of it. zone counts where the text has no offset.
func (p datePattern) parse(text string, zone *time.Location) (time.Time, error) {
	if len(text) > maxPattern {
		return time.Time{}, fmt.Errorf("the text has %d bytes, the limit is %d", len(text), maxPattern)
	}
	at := dateParts{year: -1, month: -1, day: -1, yearDay: -1, weekday: -1, hour: -1, hour12: -1, half: -1, minute: -1, second: -1, milliseconds: -1}
	rest := text
	for i, f := range p {
		var err error
		if rest, err = at.read(f, rest, i+1 < len(p) && numeric(p[i+1])); err != nil {
			return time.Time{}, err
		}
	}
	if rest != "" {
		return time.Time{}, fmt.Errorf("there is more text than the pattern has, from character %d", utf8.RuneCountInString(text[:len(text)-len(rest)])+1)
	}
	return at.time(zone)
}

// numeric tells whether a field is digits without a mark before them.
func numeric(f dateField) bool {
	return f.letter != 0 && !strings.ContainsRune("EaXx", rune(f.letter)) && (f.letter != 'M' || f.count < 3)
}

// read takes one field from the start of text. followed: digits of another field
// come next, so this one has as many as its letters.
func (at *dateParts) read(f dateField, text string, followed bool) (rest string, err error) {
	number := func(out *int, least, most, digits int) error {
		from := f.count
		if f.count == 1 && !followed {
			from, digits = 1, max(digits, 1)
		} else {
			digits = f.count
		}
		n := 0
		for n < len(text) && n < digits && '0' <= text[n] && text[n] <= '9' {
			n++
		}
		v, _ := strconv.Atoi(text[:n])
		switch field := strings.Repeat(string(f.letter), f.count); {
		case n < from:
			return fmt.Errorf("%s needs %s", field, digitsOf(from, digits))
		case v < least || v > most:
			return fmt.Errorf("%s is %d: it is between %d and %d", field, v, least, most)
		case *out >= 0 && *out != v:
			return fmt.Errorf("%s contradicts what the text says before", field)
		}
		*out, rest = v, text[n:]
		return nil
	}
	switch f.letter {
	case 0:
		after, ok := strings.CutPrefix(text, f.text)
		if !ok {
			return "", fmt.Errorf("%q is missing where the pattern has it", f.text)
		}
		return after, nil
	case 'y':
		if f.count == 2 {
			return "", fmt.Errorf("a year of two digits does not say its century: make it four digits before, and write yyyy")
		}
		return rest, number(&at.year, 0, 9999, 4)
	case 'M':
		if f.count > 2 {
			return name(&at.month, text, months[:], f, 1)
		}
		err = number(&at.month, 1, 12, 2)
	case 'd':
		err = number(&at.day, 1, 31, 2)
	case 'D':
		err = number(&at.yearDay, 1, 366, 3)
	case 'E':
		return name(&at.weekday, text, days[:], f, 0)
	case 'H':
		err = number(&at.hour, 0, 23, 2)
	case 'h':
		err = number(&at.hour12, 1, 12, 2)
	case 'a':
		return name(&at.half, text, []string{"AM", "PM"}, f, 0)
	case 'm':
		err = number(&at.minute, 0, 59, 2)
	case 's':
		err = number(&at.second, 0, 59, 2)
	case 'S':
		n := 0
		for n < len(text) && n < f.count && '0' <= text[n] && text[n] <= '9' {
			n++
		}
		if n < f.count {
			return "", fmt.Errorf("%s needs %s", strings.Repeat("S", f.count), digitsOf(f.count, f.count))
		}
		at.milliseconds, _ = strconv.Atoi((text[:n] + "00")[:3])
		return text[n:], nil
	case 'X', 'x':
		return at.readOffset(f, text)
	}
	return rest, err
}

func digitsOf(from, to int) string {
	switch {
	case from != to:
		return fmt.Sprintf("%d to %d digits", from, to)
	case from == 1:
		return "1 digit"
	}
	return fmt.Sprintf("%d digits", from)
}

// name takes one of the names, in any case. out becomes its index and base.
func name(out *int, text string, names []string, f dateField, base int) (rest string, err error) {
	for i, full := range names {
		if f.count < 4 && len(full) > 3 {
			full = full[:3]
		}
		if len(text) >= len(full) && strings.EqualFold(text[:len(full)], full) {
			if *out >= 0 && *out != i+base {
				return "", fmt.Errorf("%s contradicts what the text says before", strings.Repeat(string(f.letter), f.count))
			}
			*out = i + base
			return text[len(full):], nil
		}
	}
	return "", fmt.Errorf("%s needs an English name, such as %s", strings.Repeat(string(f.letter), f.count), names[0][:min(len(names[0]), max(3, 9*(f.count/4)))])
}

func (at *dateParts) readOffset(f dateField, text string) (rest string, err error) {
	wrong := fmt.Errorf("%s needs an offset such as %s", strings.Repeat(string(f.letter), f.count), [...]string{1: "+01 or +0130", 2: "+0100", 3: "+01:00"}[f.count])
	if f.letter == 'X' && strings.HasPrefix(text, "Z") {
		at.offset = new(int)
		return text[1:], nil
	}
	if text == "" || text[0] != '+' && text[0] != '-' {
		return "", wrong
	}
	two := func(s string) (int, string, bool) {
		if len(s) < 2 || s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9' {
			return 0, s, false
		}
		return int(s[0]-'0')*10 + int(s[1]-'0'), s[2:], true
	}
	hours, rest, ok := two(text[1:])
	if !ok {
		return "", wrong
	}
	var minutes int
	if after, colon := strings.CutPrefix(rest, ":"); f.count == 3 {
		if !colon {
			return "", wrong
		}
		rest = after
	}
	if minutes, rest, ok = two(rest); !ok && f.count > 1 {
		return "", wrong
	}
	if hours > 23 || minutes > 59 {
		return "", fmt.Errorf("the offset is larger than 23:59")
	}
	seconds := hours*3600 + minutes*60
	if text[0] == '-' {
		seconds = -seconds
	}
	at.offset = &seconds
	return rest, nil
}

// time is the moment that the parts name.
func (at *dateParts) time(zone *time.Location) (time.Time, error) {
	switch {
	case at.year < 0:
		return time.Time{}, fmt.Errorf("the pattern has no year: a date needs yyyy, MM and dd, or yyyy and DDD")
	case at.yearDay < 0 && (at.month < 0 || at.day < 0):
		return time.Time{}, fmt.Errorf("the pattern has no month or no day: a date needs yyyy, MM and dd, or yyyy and DDD")
	case at.hour12 >= 0 && at.half < 0 && at.hour < 0:
		return time.Time{}, fmt.Errorf("the pattern's h needs an a (AM or PM): write HH for the hours of a day")
	case at.half >= 0 && at.hour12 < 0 && at.hour < 0:
		return time.Time{}, fmt.Errorf("the pattern's a needs an h")
	}
	hour := max(at.hour, 0)
	if at.hour12 >= 0 {
		if h := at.hour12%12 + 12*at.half; at.half >= 0 {
			if at.hour >= 0 && at.hour != h {
				return time.Time{}, fmt.Errorf("h and a contradict H")
			}
			hour = h
		}
	}
	month, day := at.month, at.day
	if at.yearDay >= 0 {
		t := time.Date(at.year, 1, at.yearDay, 0, 0, 0, 0, time.UTC)
		if t.Year() != at.year {
			return time.Time{}, fmt.Errorf("%04d has no day %d", at.year, at.yearDay)
		}
		if month >= 0 && month != int(t.Month()) || day >= 0 && day != t.Day() {
			return time.Time{}, fmt.Errorf("the day of the year contradicts the month or the day")
		}
		month, day = int(t.Month()), t.Day()
	}
	wall := time.Date(at.year, time.Month(month), day, hour, max(at.minute, 0), max(at.second, 0), max(at.milliseconds, 0)*1e6, time.UTC)
	if wall.Day() != day {
		return time.Time{}, fmt.Errorf("%s %04d has no day %d", months[month-1], at.year, day)
	}
	if at.weekday >= 0 && at.weekday != int(wall.Weekday()) {
		return time.Time{}, fmt.Errorf("%s is a %s", wall.Format(time.DateOnly), wall.Weekday())
	}
	if at.offset != nil {
		return wall.Add(-time.Duration(*at.offset) * time.Second), nil
	}
	return inZone(wall, zone)
}

// inZone is the moment at which the clocks of a zone show what wall, in UTC, shows.
// Of the hour that comes twice in autumn it is the first; the one that is left out
// in spring is refused: nobody's clock has shown it.
func inZone(wall time.Time, zone *time.Location) (time.Time, error) {
	var found time.Time
	for _, around := range [...]time.Duration{-24 * time.Hour, 0, 24 * time.Hour} {
		_, offset := wall.Add(around).In(zone).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second)
		if _, back := t.In(zone).Zone(); back == offset && (found.IsZero() || t.Before(found)) {
			found = t
		}
	}
	if found.IsZero() {
		return found, fmt.Errorf("there is no %s in %s: the clocks were put forward over it", wall.Format("15:04 on 2006-01-02"), zone)
	}
	return found, nil
}

// parseRFC3339 reads RFC 3339, with any number of digits after the point: those
// beyond milliseconds, which a Date does not have, are cut. Where there is no
// offset, zone counts; nil: that is an error.
func parseRFC3339(text string, zone *time.Location) (time.Time, error) {
	const form = "yyyy-MM-dd'T'HH:mm:ss"
	wrong := func(err error) error {
		return fmt.Errorf("%w; without a pattern it must be RFC 3339, such as 2026-03-01T12:30:00+01:00", err)
	}
	p, err := parsePattern(form)
	if err != nil {
		return time.Time{}, err
	}
	if len(text) > maxPattern {
		return time.Time{}, fmt.Errorf("the text has %d bytes, the limit is %d", len(text), maxPattern)
	}
	head, rest := text[:min(len(text), 19)], text[min(len(text), 19):]
	if len(head) == 19 && head[10] == 't' {
		head = head[:10] + "T" + head[11:]
	}
	if rest == "z" || strings.HasSuffix(rest, "z") {
		rest = rest[:len(rest)-1] + "Z"
	}
	fraction := time.Duration(0)
	if after, ok := strings.CutPrefix(rest, "."); ok {
		n := 0
		for n < len(after) && '0' <= after[n] && after[n] <= '9' {
			n++
		}
		if n == 0 {
			return time.Time{}, wrong(fmt.Errorf("no digit follows the point"))
		}
		ms, _ := strconv.Atoi((after[:n] + "00")[:3])
		fraction, rest = time.Duration(ms)*time.Millisecond, after[n:]
	}
	if rest == "" && zone == nil {
		if _, err := p.parse(head, time.UTC); err != nil {
			return time.Time{}, wrong(err)
		}
		return time.Time{}, fmt.Errorf("the text has no offset: give the zone that it is in, as the third argument")
	}
	if rest != "" {
		p = append(p, dateField{letter: 'X', count: 3})
		zone = time.UTC
	}
	t, err := p.parse(head+rest, zone)
	if err != nil {
		return time.Time{}, wrong(err)
	}
	return t.Add(fraction), nil
}
