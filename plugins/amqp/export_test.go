//go:build unix

package amqp

// Defaults are the settings where nothing is written.
var Defaults = defaults
