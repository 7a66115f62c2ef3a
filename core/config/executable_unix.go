//go:build !windows

package config

import "io/fs"

func executable(info fs.FileInfo) bool { return info.Mode()&0o111 != 0 }
