package transforms

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dataAtStart is what the process had when it was asked first.
var dataAtStart = dataSize()

// limitData lets the process have so many bytes of private memory more than at its
// start. Beyond it the Go runtime ends the process. Go's reservations do not count,
// unlike with RLIMIT_AS.
func limitData(more uint64) {
	if dataAtStart == 0 {
		return
	}
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_DATA, &l) != nil {
		return
	}
	if raceDetector {
		more *= 6 // what it keeps of each byte
	}
	l.Cur = min(dataAtStart+more, l.Max)
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &l) // the watch on the heap is there without it
}

// dataSize is the private writable memory of the process in bytes, 0 if it is not
// known.
func dataSize() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmData:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseUint(fields[0], 10, 64)
	return kib << 10
}
