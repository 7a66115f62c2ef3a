//go:build !unix

package journal

// writable: what may be written is found out by writing only.
func writable(string) error { return nil }
