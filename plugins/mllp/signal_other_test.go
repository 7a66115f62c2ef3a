//go:build !unix

package mllp_test

import (
	"errors"
	"os"
)

func pause(*os.Process) error  { return errors.New("a process cannot be stopped here") }
func resume(*os.Process) error { return nil }
