package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of times in /proc, which is the same on all of Linux's
// architectures that Go knows.
const clockTick = time.Second / 100

// statFields are those of /proc/<pid>/stat after the command's name, which may
// hold spaces: field n of proc(5) is statFields[n-3].
func statFields(pid int) ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 22 {
		return nil, errors.New("/proc/<pid>/stat is too short")
	}
	return fields, nil
}

// cpuTime is the CPU time that a process has used, in the kernel included.
func cpuTime(pid int) (time.Duration, error) {
	fields, err := statFields(pid)
	if err != nil {
		return 0, err
	}
	user, err1 := strconv.ParseInt(fields[14-3], 10, 64)
	system, err2 := strconv.ParseInt(fields[15-3], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// machineTime is what all processes together have used, and what the host has
// taken from this machine if it is a virtual one.
func machineTime() (time.Duration, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	if len(fields) < 9 {
		return 0, errors.New("/proc/stat is too short")
	}
	var sum time.Duration
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * clockTick
	}
	return sum, nil
}

// resourcesOf reads what a process holds.
func resourcesOf(pid int) (resources, error) {
	fields, err := statFields(pid)
	if err != nil {
		return resources{}, err
	}
	threads, err1 := strconv.Atoi(fields[20-3])
	pages, err2 := strconv.ParseInt(fields[24-3], 10, 64)
	files, err3 := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return resources{
		RSS: pages * int64(os.Getpagesize()), Files: len(files), Threads: threads,
	}, errors.Join(err1, err2, err3)
}

// childrenOf finds the processes that pid has started, with their command lines.
func childrenOf(pid int) (map[int][]string, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	out := map[int][]string{}
	for _, dir := range dirs {
		child, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		fields, err := statFields(child)
		if err != nil || fields[4-3] != strconv.Itoa(pid) {
			continue // it has ended meanwhile, or is another's
		}
		raw, err := os.ReadFile(dir + "/cmdline")
		if err == nil {
			out[child] = strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
		}
	}
	return out, nil
}

func kernel() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(raw))
}

func cpuModel() string {
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// dataSync has the disk keep what was written.
func dataSync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) } //nolint:gosec // a descriptor fits

// filesystem is the kind that dir is on: in memory, a sync costs nothing.
func filesystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "unknown"
	}
	switch int64(s.Type) { //nolint:unconvert // some architectures have another type
	case unix.TMPFS_MAGIC:
		return "tmpfs, which is memory: a sync costs nothing there"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("of type %#x", s.Type)
}
