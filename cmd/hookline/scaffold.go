package main

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// scaffold are the files that the init commands begin with.
//
//go:embed scaffold
var scaffold embed.FS

// newFile is a file that an init command writes.
type newFile struct {
	path   string
	text   []byte
	secret bool // for its owner only
	shared bool // one that is there stays as it is, and is none of ours
}

// makeFiles writes files and their folders, and tells which. Nothing is
// overwritten: if one stands in the way, none is written.
func makeFiles(out io.Writer, files []newFile) error {
	inTheWay := func(path string) error {
		return exitError{code: exitFailed, err: fmt.Errorf("%s is there already, and is not overwritten: choose another name, or move it away", path)}
	}
	for _, f := range files {
		if _, err := os.Lstat(f.path); err == nil && !f.shared {
			return inTheWay(f.path)
		}
	}
	for _, f := range files {
		mode := fs.FileMode(0o644)
		if f.secret {
			mode = 0o600
		}
		err := os.MkdirAll(filepath.Dir(f.path), 0o755)
		if err == nil {
			err = writeExclusive(f.path, f.text, mode)
		}
		switch {
		case err == nil:
			fmt.Fprintln(out, "wrote", f.path)
		case errors.Is(err, fs.ErrExist) && f.shared:
		case errors.Is(err, fs.ErrExist): // it has come meanwhile
			return inTheWay(f.path)
		default:
			return exitError{code: exitFailed, err: err}
		}
	}
	return nil
}
