package app_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// process is a descendant of this one, as /proc shows it.
type process struct {
	pid     int
	cmdline string // arguments, separated by spaces
}

// descendants are the processes below pid.
func descendants(t testing.TB, pid int) []process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	parent := map[int]int{}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid ...; the name may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[0] != "Z" {
			parent[child], _ = strconv.Atoi(fields[1])
		}
	}
	var out []process
	for child := range parent {
		for p := parent[child]; p != 0; p = parent[p] {
			if p == pid {
				line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
				out = append(out, process{child, strings.Trim(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})), " ")})
				break
			}
		}
	}
	return out
}

// childOf is the pid of the one child whose command line ends so, 0 for none.
func childOf(t testing.TB, pid int, suffix string) int {
	t.Helper()
	found := 0
	for _, p := range descendants(t, pid) {
		if strings.HasSuffix(p.cmdline, suffix) {
			if found != 0 {
				t.Fatalf("two processes %q: %d and %d", suffix, found, p.pid)
			}
			found = p.pid
		}
	}
	return found
}

// transportPID is the process of a transport in this test's daemon.
func transportPID(t testing.TB, name string) int {
	t.Helper()
	pid := childOf(t, os.Getpid(), "child transport http "+name)
	if pid == 0 {
		t.Fatalf("transport %s has no process", name)
	}
	return pid
}

// assertChildrenClean looks at what everyone on this machine, or its user, can
// read of a child.
func assertChildrenClean(t testing.TB) {
	t.Helper()
	for _, p := range descendants(t, os.Getpid()) {
		assertClean(t, "the command line of "+p.cmdline, p.cmdline)
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err != nil || strings.Contains(p.cmdline, modeDaemon) {
			continue // it has just ended; or it is the daemon, which an operator gives its secrets so
		}
		assertClean(t, "the environment of "+p.cmdline, string(environ), "HOOK_PASSWORD", "EHR_")
	}
}

// awaitExit waits for a process that need not be a child of this one.
func awaitExit(t testing.TB, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
	for err == unix.EINTR { // the runtime preempts with signals
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
	}
	if n != 1 {
		t.Errorf("process %d is still there (%v)", pid, err)
	}
}

// fds counts the open files of a process.
func fds(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
