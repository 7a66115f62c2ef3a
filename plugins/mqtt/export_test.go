package mqtt

// Defaults are the settings where nothing is written.
var Defaults = defaults
