package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const maxSecret = 64 << 10

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// isReference tells whether ref names a secret that is kept elsewhere.
func isReference(ref string) bool {
	return strings.HasPrefix(ref, "env:") || strings.HasPrefix(ref, "file:")
}

// Resolve is [ResolveReference] in the folder of the file and in the environment
// that the configuration was made from.
func (c *Config) Resolve(ref string) (string, error) {
	return ResolveReference(ref, c.Dir, func(name string) (string, bool) {
		value, set := c.environ[name]
		return value, set
	})
}

// ResolveReference gives what a reference stands for: env:NAME is a variable,
// file:PATH is a file's content without its last newline, anything else is
// itself. It looks anew each time, so that a reload sees a changed file. An error
// names the reference and never holds a value.
func ResolveReference(ref, dir string, lookupEnv func(name string) (string, bool)) (string, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		value, set := lookupEnv(name)
		switch {
		case !variableName.MatchString(name):
			return "", errors.New("env: must be followed by the name of a variable: letters, digits and _")
		case !set:
			return "", fmt.Errorf("env:%s is not set in Hookline's environment", name)
		case value == "":
			return "", fmt.Errorf("env:%s is set but empty", name)
		}
		return value, nil
	}
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		if path == "" {
			return "", errors.New("file: names no file; write file:PATH")
		}
		full := abs(dir, path)
		data, err := readLimited(full, maxSecret)
		if err != nil {
			return "", fmt.Errorf("file: %s cannot be read: %s", quote(full), reason(err))
		}
		// One newline, because editors and echo write it; a second is meant.
		value := string(data)
		if cut, ok := strings.CutSuffix(value, "\n"); ok {
			value = strings.TrimSuffix(cut, "\r")
		}
		if value == "" {
			return "", fmt.Errorf("file: %s is empty", quote(full))
		}
		return value, nil
	}
	return ref, nil
}
