//go:build unix

package targettest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a server's process and its children. It ends with the test, however that
// ends.
type Server struct {
	Program string
	Args    []string
	Env     []string // added to a short environment of its own
	Dir     string   // of its log
	Ready   func() error
	Within  time.Duration // of Ready

	cmd   *exec.Cmd
	alive io.Closer // once it is closed, the server is killed
}

// Find is the program's path, or "".
func Find(name string, folders ...string) string {
	for _, dir := range folders {
		if path := filepath.Join(dir, name); executable(path) {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Start returns once the server is ready.
func (s *Server) Start() error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	// The shell kills its group once nobody holds its standard input any more.
	s.cmd = exec.Command("/bin/sh", append([]string{"-c", `"$0" "$@" </dev/null & read gone; kill -9 0`, s.Program}, s.Args...)...)
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "LANG=C.UTF-8"}, s.Env...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.Dir, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.alive, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	end := time.Now().Add(s.Within)
	for {
		err := s.Ready()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			s.Kill()
			return fmt.Errorf("%s is not ready after %v: %w; its log:\n%s", filepath.Base(s.Program), s.Within, err, s.tail())
		}
		time.Sleep(50 * time.Millisecond) // a pace for the loop
	}
}

// Kill ends it at once, as a power cut would.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.Signal(syscall.SIGKILL)
	_ = s.alive.Close()
	_ = s.cmd.Wait()
	s.await("") // of its shell only the end is sure, and its ports are to be free
	s.cmd = nil
}

// Signal tells the server and its children.
func (s *Server) Signal(sig syscall.Signal) { _ = syscall.Kill(-s.cmd.Process.Pid, sig) }

func (s *Server) logFile() string { return filepath.Join(s.Dir, "server.log") }

func (s *Server) tail() string {
	b, _ := os.ReadFile(s.logFile())
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// Freeze stops the server and its children until Thaw, and returns once they stand
// still: the signal alone is told of before it works.
func (s *Server) Freeze() {
	s.Signal(syscall.SIGSTOP)
	s.await("T")
}

// await returns once all threads of the server and its children are dead or in one of
// the states, as /proc has them.
func (s *Server) await(states string) {
	await("/proc/[0-9]*/task/[0-9]*/stat", strconv.Itoa(s.cmd.Process.Pid), states)
}

// Freeze stops one process, and returns once it stands still.
func Freeze(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	await(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid), "", "T")
	return nil
}

// await looks at the threads whose files match the pattern, and at those of the group
// if it is not "".
func await(pattern, group, states string) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) { // a pace for the loop
		threads, _ := filepath.Glob(pattern)
		if !slices.ContainsFunc(threads, func(file string) bool {
			text, _ := os.ReadFile(file)
			// pid (name) state parent group ..., and the name may have anything in it.
			f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
			return len(f) > 2 && (group == "" || f[2] == group) && !strings.Contains("ZX"+states, f[0])
		}) {
			return
		}
	}
}

// Thaw lets it go on.
func (s *Server) Thaw() { s.Signal(syscall.SIGCONT) }
