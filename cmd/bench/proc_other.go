//go:build !linux

package main

import (
	"errors"
	"os"
	"runtime"
	"time"
)

func cpuTime(int) (time.Duration, error)       { return 0, errors.ErrUnsupported }
func machineTime() (time.Duration, error)      { return 0, errors.ErrUnsupported }
func resourcesOf(int) (resources, error)       { return resources{}, errors.ErrUnsupported }
func childrenOf(int) (map[int][]string, error) { return nil, errors.ErrUnsupported }
func kernel() string                           { return runtime.GOOS }
func cpuModel() string                         { return runtime.GOARCH + " CPU" }

func dataSync(f *os.File) error { return f.Sync() }
func filesystem(string) string  { return "unknown" }
