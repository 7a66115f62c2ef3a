//go:build unix

package nats

// Defaults are the settings where nothing is written.
var Defaults = defaults
