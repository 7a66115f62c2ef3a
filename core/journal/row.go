package journal

import (
	"encoding/json"
	"time"
)

// row is a result row. Both drivers give int64, string, []byte or nil; a number
// that Postgres computes may be an int32.
type row []any

func (r row) null(i int) bool { return r[i] == nil }

func (r row) int(i int) int64 {
	switch v := r[i].(type) {
	case int64:
		return v
	case int32:
		return int64(v)
	case float64:
		return int64(v)
	}
	return 0
}

func (r row) flag(i int) bool { return r.int(i) != 0 }

func (r row) str(i int) string {
	switch v := r[i].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// bytes is never nil, as an empty payload is one.
func (r row) bytes(i int) []byte {
	switch v := r[i].(type) {
	case []byte:
		if v != nil {
			return v
		}
	case string:
		return []byte(v)
	}
	return []byte{}
}

// time is zero for null.
func (r row) time(i int) time.Time {
	if r.null(i) {
		return time.Time{}
	}
	return time.UnixMicro(r.int(i)).UTC()
}

// until is a time from now, negative for null.
func (r row) until(i int) time.Duration {
	if r.null(i) {
		return -1
	}
	return max(0, time.Duration(r.int(i))*time.Microsecond)
}

func (r row) micros(i int) time.Duration { return time.Duration(r.int(i)) * time.Microsecond }

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob is never nil: the columns are not null.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// list is the argument of {ints} and {texts}.
func list[T int64 | string](values []T) string {
	if len(values) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(values)
	return string(text)
}
