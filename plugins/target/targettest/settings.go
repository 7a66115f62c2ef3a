package targettest

import (
	"errors"
	"testing"

	"github.com/hookline/hookline/plugins/transport"
)

// Fields are the settings that an error of Configure names, in its order. It must be a
// *[transport.SettingError], or join nothing else.
func Fields(tb testing.TB, err error) (out []string) {
	tb.Helper()
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			out = append(out, Fields(tb, e)...)
		}
		return out
	}
	se, ok := errors.AsType[*transport.SettingError](err)
	if !ok {
		tb.Fatalf("not a SettingError: %v", err)
	}
	return []string{se.Field}
}
