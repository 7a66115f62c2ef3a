package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// appender appends to one path. It holds the file open, and notices when somebody
// has moved it away.
type appender struct {
	path     string
	settings *archive
	fsync    func(*os.File) error

	f   *os.File // nil: not open
	end int64    // of the file after our last batch, with a line's end there
	buf []byte
}

// append writes the batch's lines, each whole and into one file, and syncs them. It
// gives one receipt for each entry.
func (a *appender) append(batch []*entry) []transport.Receipt {
	receipts := make([]transport.Receipt, 0, len(batch))
	for len(batch) > 0 {
		n, r := a.part(batch)
		for range n {
			receipts = append(receipts, r)
		}
		batch = batch[n:]
	}
	return receipts
}

// part writes as many of the lines as the current file takes, at least one.
func (a *appender) part(batch []*entry) (int, transport.Receipt) {
	size, err := a.acquire(len(batch[0].line))
	if err != nil {
		return len(batch), a.failed(transport.None, err)
	}
	a.buf = a.buf[:0]
	if err := a.mend(size); err != nil {
		a.close()
		return len(batch), a.failed(transport.None, err)
	}
	n := 0
	for _, e := range batch {
		if n > 0 && a.settings.full(size, len(a.buf)+len(e.line)) {
			break
		}
		a.buf = append(a.buf, e.line...)
		n++
	}
	wrote, err := a.f.Write(a.buf)
	if err != nil {
		effect := a.takeBack(size, int64(wrote))
		a.close()
		return n, a.failed(effect, err)
	}
	a.end = size + int64(wrote)
	if cap(a.buf) > maxBatch {
		a.buf = nil
	}
	// The lock is for what comes between two lines; others may sync meanwhile.
	unlock(a.f)
	if err := a.fsync(a.f); err != nil {
		// The system may have dropped the pages and would call the next fsync a
		// success: nothing that it says of this file from now on is proof.
		a.close()
		return n, a.failed(transport.Unknown, fmt.Errorf("fsync: %w", err))
	}
	return n, transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine("appended to " + a.path)}
}

// acquire opens the file if need be, locks it, and makes room for a line by
// rotation. The file is then the one that the path leads to, and has size bytes.
func (a *appender) acquire(line int) (size int64, err error) {
	for range 10 { // somebody may rotate it between opening and locking
		if a.f == nil {
			if err := a.open(); err != nil {
				return 0, err
			}
		}
		if err := lock(a.f); err != nil {
			a.close()
			return 0, fmt.Errorf("lock: %w", err)
		}
		ours, err := a.f.Stat()
		if err != nil {
			a.close()
			return 0, err
		}
		there, err := os.Stat(a.path)
		if err != nil || !os.SameFile(ours, there) {
			a.close() // it was moved away, by logrotate or another process
			continue
		}
		if size = ours.Size(); !a.settings.full(size, line) {
			return size, nil
		}
		if err := a.rotate(); err != nil {
			a.close()
			return 0, fmt.Errorf("rotate: %w", err)
		}
		a.close()
	}
	return 0, errors.New("the file is moved away as soon as it is made")
}

// open opens or makes the file, and syncs the folder: what is synced in a file is
// of no use if the file's name is not there after a power cut, and who made the name
// may not have come to sync it.
func (a *appender) open() error {
	f, err := os.OpenFile(a.path, os.O_RDWR|os.O_APPEND|nonBlocking, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := a.settings.makeFolders(a.path); err != nil {
			return err
		}
		f, err = os.OpenFile(a.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, a.settings.mode)
		if errors.Is(err, fs.ErrExist) { // another process was faster
			f, err = os.OpenFile(a.path, os.O_RDWR|os.O_APPEND|nonBlocking, 0)
		} else if err == nil {
			err = f.Chmod(a.settings.mode) // whatever the umask is
		}
	}
	if err == nil {
		err = regular(f)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(a.path))
	}
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return err
	}
	a.f, a.end = f, -1
	return nil
}

var errNotRegular = errors.New("is not a file that lines can be appended to")

func regular(f *os.File) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "open", Path: f.Name(), Err: errNotRegular}
	}
	return err
}

// mend begins the batch with a line's end if the file has a torn last line, of a
// crash or a power cut: only that line is lost to a reader then, which nobody was
// told to be delivered.
func (a *appender) mend(size int64) error {
	if size == 0 || size == a.end {
		return nil
	}
	var last [1]byte
	if _, err := a.f.ReadAt(last[:], size-1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if last[0] != '\n' {
		a.buf = append(a.buf, '\n')
	}
	return nil
}

// takeBack cuts off what a failed write has left, and tells the effect.
func (a *appender) takeBack(size, wrote int64) transport.Effect {
	if info, err := a.f.Stat(); err != nil || info.Size() != size+wrote {
		return transport.Unknown
	}
	if wrote == 0 {
		return transport.None
	}
	if a.f.Truncate(size) != nil || a.fsync(a.f) != nil { // the disk may have seen the lines
		return transport.Unknown
	}
	return transport.None
}

// rotate moves a full file to the next free number: events.jsonl becomes
// events.000001.jsonl. It holds the lock.
func (a *appender) rotate() error {
	folder, name := filepath.Split(a.path)
	ext := filepath.Ext(name)
	base := strings.TrimSuffix(name, ext)
	list, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	last := 0
	for _, e := range list {
		var n int
		middle, found := strings.CutPrefix(e.Name(), base+".")
		if middle, isOurs := strings.CutSuffix(middle, ext); found && isOurs {
			if _, err := fmt.Sscanf(middle, "%d", &n); err == nil && middle == number(n) {
				last = max(last, n)
			}
		}
	}
	if !locks {
		a.close() // Windows renames no open file
	}
	// open syncs the folder before anything is called delivered.
	return os.Rename(a.path, filepath.Join(folder, base+"."+number(last+1)+ext))
}

func number(n int) string { return fmt.Sprintf("%06d", n) }

// close also gives up the lock.
func (a *appender) close() {
	if a.f != nil {
		_ = a.f.Close() // what counts is synced
		a.f = nil
	}
}

func (a *appender) failed(effect transport.Effect, err error) transport.Receipt {
	return failure(effect, a.path, err)
}
