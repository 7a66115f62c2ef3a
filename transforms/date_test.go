package transforms

import (
	"testing"
	"time"
)

// FuzzDate: what is formatted can be read again and is the same moment, whatever
// the zone; and no text or pattern does harm.
func FuzzDate(f *testing.F) {
	f.Add(int64(1772368215250), "Europe/Berlin", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2026-03-01T12:30:15.250+01:00")
	f.Add(int64(1761352200000), "Europe/Berlin", "d.M.y h:mm a EEE", "25.10.2025 2:30 AM Sat")
	f.Add(int64(-62135596800000), "America/St_Johns", "yyyyMMddHHmmss.SSSxx", "00010101000000.000-0330")
	f.Add(int64(0), "Africa/Monrovia", "yyyy-DDD '''", "1970-001 '")
	f.Fuzz(func(t *testing.T, ms int64, zoneName, pattern, text string) {
		zone, err := zoneNamed(zoneName)
		if err != nil {
			zone = time.UTC
		}
		if p, err := parsePattern(pattern); err == nil {
			if _, err := p.parse(text, zone); err == nil {
				// A number of any size must not come out as a date of another one.
				if at, _ := p.parse(text, zone); at.UTC().Year() < -1 || at.UTC().Year() > 10000 {
					t.Errorf("%q as %q is %s", text, pattern, at)
				}
			}
		}
		_, _ = parseRFC3339(text, zone)
		written, err := formatDate(float64(ms), rfc3339, zone)
		if err != nil {
			return
		}
		at := time.UnixMilli(int64(float64(ms)))
		if _, offset := at.In(zone).Zone(); offset%60 != 0 {
			return // RFC 3339 has no seconds of an offset
		}
		if back, err := parseRFC3339(written, nil); err != nil || !back.Equal(at) {
			t.Errorf("%s was written %s and read as %s, %v", at.UTC(), written, back.UTC(), err)
		}
		if back, err := rfc3339.parse(written, zone); err != nil || !back.Equal(at) {
			t.Errorf("%s was written %s and read by its pattern as %s, %v", at.UTC(), written, back.UTC(), err)
		}
	})
}

// FuzzTable: a file is taken or refused, and what is taken can be searched.
func FuzzTable(f *testing.F) {
	f.Add("a.csv", []byte("a,b\n1,2\n"))
	f.Add("a.csv", []byte("\xef\xbb\xbfa,\"b \"\"\"\r\n\"x\ny\",2"))
	f.Add("a.json", []byte(`{"a":[1,{"b":null}],"c":"\ud83d\ude00"}`))
	f.Add("a.json", []byte(`[1,`))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		table, err := newTable(name, content)
		if err != nil || !table.csv {
			return
		}
		for i, row := range table.rows {
			for column, cell := range row {
				found := table.find(column, cell)
				if len(found) == 0 || int(found[0]) > i {
					t.Fatalf("row %d is not found by column %d", i, column)
				}
			}
		}
	})
}
