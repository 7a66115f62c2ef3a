package smtp

// Defaults are the settings that apply where none is written.
var Defaults = defaults

// Meaning is the code of an answer.
var Meaning = meaning
