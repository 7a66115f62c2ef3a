package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hookline/hookline/plugins/target"
	"github.com/hookline/hookline/plugins/transport"
)

// makeFolders makes those folders of path that are named by placeholders. What
// comes before them must be there: to make it would fill the disk beneath a volume
// that is not mounted.
func (s *archive) makeFolders(path string) error {
	if _, err := os.Stat(s.path.root); err != nil {
		return err
	}
	below := strings.TrimPrefix(filepath.Dir(path), s.path.root)
	at := s.path.root
	for part := range strings.SplitSeq(below, string(filepath.Separator)) {
		if part == "" {
			continue
		}
		parent := at
		at = filepath.Join(at, part)
		err := os.Mkdir(at, s.folderMode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = os.Chmod(at, s.folderMode)
		}
		if err == nil {
			err = syncFolder(parent)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *archive) check() transport.Receipt {
	probe, err := os.CreateTemp(s.path.root, ".hookline-check-*")
	if err != nil {
		return failure(transport.None, s.path.root, err)
	}
	_ = probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return failure(transport.None, s.path.root, err)
	}
	detail := "files can be made in " + s.path.root
	if path, fixed := s.path.fixed(); fixed {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|nonBlocking, 0)
		if err == nil {
			err = regular(f)
			_ = f.Close()
			detail = "lines can be appended to " + path
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return failure(transport.None, path, err)
		}
	}
	return transport.Receipt{Effect: transport.Done, Code: transport.Delivered, Detail: target.OneLine(detail)}
}

// failure maps an error of the file system. path is in no error twice.
func failure(effect transport.Effect, path string, err error) transport.Receipt {
	code := transport.TargetError // a disk that is full, broken, gone or can only be read
	why := target.Cause(err)
	var at *fs.PathError
	if errors.As(err, &at) && !isErrno(err) {
		why = at.Err.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A disk that is not mounted comes back, and the lines wait for it. Of a folder
		// that never was Check tells, before an event waits for it.
		code, why = transport.ConnectionRefused, "the folder is not there; mount its disk, or make it"
	case errors.Is(err, errNotRegular), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENXIO):
		code = transport.NotFoundAtTarget
	case errors.Is(err, fs.ErrPermission):
		code = transport.UnauthorizedByTarget
	}
	return transport.Failed(effect, code, target.OneLine(path+": "+why))
}

func isErrno(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}
