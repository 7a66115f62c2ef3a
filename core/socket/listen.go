// Package socket opens the sockets that the daemon is called on: TCP, Unix, or
// handed over by systemd.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listen makes the socket that url names: tcp://host:port, unix:///path or
// unix:path. The file of a Unix socket has the mode and is removed at Close; one
// that a dead daemon left behind is replaced.
func Listen(url string, mode fs.FileMode) (net.Listener, error) {
	if addr, ok := strings.CutPrefix(url, "tcp://"); ok {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w", url, err)
		}
		return l, nil
	}
	if path, ok := strings.CutPrefix(url, "unix:"); ok {
		if after, double := strings.CutPrefix(path, "//"); double {
			path = after
		}
		if path == "" {
			return nil, fmt.Errorf("%q names no socket; write unix:///path", url)
		}
		return listenUnix(path, mode)
	}
	return nil, fmt.Errorf("%q is not an address to listen on; write tcp://host:port or unix:///path", url)
}

func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	// Of two daemons that start at once, one must see the other's socket.
	unlock := lockDir(filepath.Dir(path))
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: withMode(mode)}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on unix:%s: %w", path, err)
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false)
	s := &unixSocket{UnixListener: ul, path: path}
	if err = os.Chmod(path, mode); err == nil {
		s.made, err = os.Lstat(path)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot listen on unix:%s: %w", path, err)
	}
	return s, nil
}

// removeStale removes a socket that nobody listens on. It never removes anything
// else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot listen on unix:%s: %w", path, err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("cannot listen on unix:%s: there is a file in its place that is not a socket; move it away or name another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("cannot listen on unix:%s: another process listens there; stop it or name another path", path)
	}
	if !refused(err) {
		return fmt.Errorf("cannot listen on unix:%s: there is a socket in its place, and whether a process listens there is not known: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot replace the socket that a dead process left behind: %w", err)
	}
	return nil
}

// unixSocket removes its file at Close, unless the file is another's by then.
type unixSocket struct {
	*net.UnixListener
	path string
	made os.FileInfo
	once sync.Once
}

// Close stops listening and removes the socket's file.
func (s *unixSocket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && s.made != nil && os.SameFile(now, s.made) {
			os.Remove(s.path)
		}
	})
	return s.UnixListener.Close()
}

// Activated returns the sockets that systemd (or another supervisor) opened for
// this process, in the order of the .socket unit; none if it was started in
// another way. It may be called once: it takes LISTEN_PID, LISTEN_FDS and
// LISTEN_FDNAMES out of the environment, so that no child mistakes them for its
// own.
func Activated() ([]net.Listener, error) {
	files := activation.Files(true)
	var listeners []net.Listener
	var bad error
	for _, f := range files {
		l, err := net.FileListener(f)
		f.Close() // FileListener made its own
		if err != nil {
			bad = fmt.Errorf("the socket %s that systemd passed is not one to accept connections on; use ListenStream in the .socket unit, without Accept=yes: %w", f.Name(), err)
			continue
		}
		listeners = append(listeners, l)
	}
	if bad != nil {
		for _, l := range listeners {
			l.Close()
		}
		return nil, bad
	}
	return listeners, nil
}
