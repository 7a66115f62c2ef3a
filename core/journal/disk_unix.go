//go:build linux || darwin

package journal

import "golang.org/x/sys/unix"

// freeBytes is what the daemon's user may still write on the disk of path.
func freeBytes(path string) (int64, bool) {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true //nolint:unconvert // the types differ per system
}
