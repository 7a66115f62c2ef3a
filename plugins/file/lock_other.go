//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package file

import "os"

// locks is false: no two processes may append to the same files here.
const locks = false

const nonBlocking = 0

func lock(*os.File) error { return nil }
func unlock(*os.File)     {}

// syncFolder has nothing to do: Windows has no such call.
func syncFolder(string) error { return nil }
