package smtp

// Defaults are what applies where nothing is written.
func Defaults() map[string]any {
	d := defaults()
	return map[string]any{
		"security": d.Security, "auth": d.Auth, "subject": d.Subject, "text": d.Text, "json": d.JSON,
		"allow_plaintext": d.AllowPlaintext, "allow_link_local": d.AllowLinkLocal,
		"dial_timeout": d.DialTimeout, "idle_timeout": d.IdleTimeout, "max_connections": float64(d.MaxConnections),
	}
}

// Meaning is the code of an answer.
var Meaning = meaning
