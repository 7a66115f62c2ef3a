package transforms

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	// The zones of the machine may be missing; then these are used.
	_ "time/tzdata"
)

// maxPattern bounds a date's pattern and text, in bytes.
const maxPattern = 256

// dateField is one part of a pattern: a letter of LDML with how often it stands,
// or a text that stands for itself.
type dateField struct {
	letter byte // 0: a literal
	count  int
	text   string
}

// dateLetters says how often a letter may stand in a pattern, at most.
var dateLetters = map[byte]int{
	'y': 4, 'M': 4, 'd': 2, 'D': 3, 'E': 4, 'H': 2, 'h': 2, 'a': 1, 'm': 2, 's': 2, 'S': 9, 'X': 3, 'x': 3,
}

var (
	months = [...]string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
	days   = [...]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
)

// datePattern is a pattern of Unicode's LDML (UTS 35, part 4, section 8): of its
// letters those that need no language but English.
type datePattern []dateField

// rfc3339 is the pattern where none is given. Reading, it takes all of RFC 3339.
var rfc3339 = func() datePattern {
	p, err := parsePattern("yyyy-MM-dd'T'HH:mm:ss.SSSXXX")
	if err != nil {
		panic(err)
	}
	return p
}()

func parsePattern(text string) (datePattern, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("the pattern has %d bytes, the limit is %d", len(text), maxPattern)
	}
	if text == "" {
		return nil, fmt.Errorf("the pattern is empty: leave it out for RFC 3339, or write one such as yyyy-MM-dd")
	}
	var p datePattern
	literal := func(s string) {
		if n := len(p); n > 0 && p[n-1].letter == 0 {
			p[n-1].text += s
		} else {
			p = append(p, dateField{text: s})
		}
	}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\'':
			quoted, after, err := quotedText(text[i+1:])
			if err != nil {
				return nil, err
			}
			literal(quoted)
			i = len(text) - len(after)
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			n := 1
			for i+n < len(text) && text[i+n] == c {
				n++
			}
			if err := checkField(c, n); err != nil {
				return nil, err
			}
			p = append(p, dateField{letter: c, count: n})
			i += n
		default:
			_, n := utf8.DecodeRuneInString(text[i:])
			literal(text[i : i+n])
			i += n
		}
	}
	return p, nil
}

// quotedText reads what stands between quotes; two of them are one.
func quotedText(s string) (text, after string, err error) {
	if after, ok := strings.CutPrefix(s, "'"); ok {
		return "'", after, nil
	}
	var b strings.Builder
	for {
		part, rest, found := strings.Cut(s, "'")
		b.WriteString(part)
		if !found {
			return "", "", fmt.Errorf("the pattern has a quote without its second: text stands in '...', a quote itself is ''")
		}
		if !strings.HasPrefix(rest, "'") {
			return b.String(), rest, nil
		}
		b.WriteByte('\'')
		s = rest[1:]
	}
}

func checkField(c byte, n int) error {
	field := strings.Repeat(string(c), n)
	switch most := dateLetters[c]; {
	case c == 'Y':
		return fmt.Errorf("the pattern's %s is the year of weeks, which differs around New Year: write yyyy", field)
	case c == 'D' && n == 2:
		return fmt.Errorf("the pattern's DD is the day of the year: write dd for the day of the month, DDD for that of the year")
	case c == 'Z':
		return fmt.Errorf("the pattern's %s is not known: write XX for +0100, XXX for +01:00 (Z for UTC), xx or xxx for digits always", field)
	case most == 0:
		return fmt.Errorf("the pattern's %s is not known: the letters are y M d D E H h a m s S X x, other text stands in '...'", field)
	case n > most, c == 'y' && n == 3:
		return fmt.Errorf("the pattern's %s is not known: use %s", field, shorterFields(c))
	}
	return nil
}

func shorterFields(c byte) string {
	var out []string
	for n := 1; n <= dateLetters[c] && n <= 4; n++ {
		if (c != 'y' || n != 3) && (c != 'D' || n != 2) {
			out = append(out, strings.Repeat(string(c), n))
		}
	}
	return strings.Join(out, ", ")
}

// format writes t, which is in its zone. Its year must have four digits.
func (p datePattern) format(t time.Time) string {
	var b []byte
	for _, f := range p {
		switch f.letter {
		case 0:
			b = append(b, f.text...)
		case 'y':
			if f.count == 2 {
				b = appendDigits(b, t.Year()%100, 2)
			} else {
				b = appendDigits(b, t.Year(), f.count)
			}
		case 'M':
			switch name := t.Month().String(); f.count {
			case 3:
				b = append(b, name[:3]...)
			case 4:
				b = append(b, name...)
			default:
				b = appendDigits(b, int(t.Month()), f.count)
			}
		case 'd':
			b = appendDigits(b, t.Day(), f.count)
		case 'D':
			b = appendDigits(b, t.YearDay(), f.count)
		case 'E':
			name := t.Weekday().String()
			if f.count < 4 {
				name = name[:3]
			}
			b = append(b, name...)
		case 'H':
			b = appendDigits(b, t.Hour(), f.count)
		case 'h':
			b = appendDigits(b, (t.Hour()+11)%12+1, f.count)
		case 'a':
			if t.Hour() < 12 {
				b = append(b, "AM"...)
			} else {
				b = append(b, "PM"...)
			}
		case 'm':
			b = appendDigits(b, t.Minute(), f.count)
		case 's':
			b = appendDigits(b, t.Second(), f.count)
		case 'S':
			b = append(b, fmt.Sprintf("%09d", t.Nanosecond())[:f.count]...)
		case 'X', 'x':
			b = appendOffset(b, t, f)
		}
	}
	return string(b)
}

func appendDigits(b []byte, n, width int) []byte {
	s := strconv.Itoa(n)
	for range width - len(s) {
		b = append(b, '0')
	}
	return append(b, s...)
}

// appendOffset cuts seconds, which zones had before there was a standard time.
func appendOffset(b []byte, t time.Time, f dateField) []byte {
	_, seconds := t.Zone()
	if seconds == 0 && f.letter == 'X' {
		return append(b, 'Z')
	}
	sign := byte('+')
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	b = appendDigits(append(b, sign), seconds/3600, 2)
	minutes := seconds / 60 % 60
	if f.count == 1 && minutes == 0 {
		return b
	}
	if f.count == 3 {
		b = append(b, ':')
	}
	return appendDigits(b, minutes, 2)
}

// zones are those that were asked for: some six hundred at most.
var zones sync.Map // name -> *time.Location

// zoneNamed finds a zone by its IANA name.
func zoneNamed(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	unknown := fmt.Errorf("there is no zone %.60q: write an IANA name such as Europe/Berlin, or UTC", name)
	// Those below are time.LoadLocation's own words and the zones with leap seconds.
	if name == "" || name == "Local" || strings.HasPrefix(name, "right/") || strings.HasPrefix(name, "posix") {
		return nil, unknown
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, unknown
	}
	zones.Store(name, zone)
	return zone, nil
}

// formatDate is ctx.date.format for a number of milliseconds since 1970.
func formatDate(milliseconds float64, pattern datePattern, zone *time.Location) (string, error) {
	const most = 8.64e15 // of a Date
	if math.IsNaN(milliseconds) || math.Abs(milliseconds) > most {
		return "", fmt.Errorf("the date is not valid")
	}
	t := time.UnixMilli(int64(milliseconds)).In(zone)
	if t.Year() < 0 || t.Year() > 9999 {
		return "", fmt.Errorf("the year is %d: it is between 0 and 9999", t.Year())
	}
	return pattern.format(t), nil
}
