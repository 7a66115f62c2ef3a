// Package core is Hookline without its surroundings: what an event is, which
// routes want it, how a delivery is made within its deadlines, and what the
// caller is told. It knows no TOML, HTTP or SQL; what it needs from others it
// declares as interfaces beside their user.
package core
