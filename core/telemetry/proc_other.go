//go:build !linux

package telemetry

// useOf is for Linux only.
func useOf(int) (use, bool) { return use{}, false }
