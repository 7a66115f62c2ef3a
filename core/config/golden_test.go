package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what Parse says into testdata/*.toml")

// TestGolden reads testdata/*.toml, which hold their environment ("#env: ") and
// what Parse must say ("#= ") below the input.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var input, want strings.Builder
			var environ []string
			for line := range strings.Lines(string(data)) {
				if strings.HasPrefix(line, "#= ") {
					want.WriteString(line)
					continue
				}
				input.WriteString(line)
				if env, ok := strings.CutPrefix(line, "#env: "); ok {
					environ = append(environ, strings.TrimSuffix(env, "\n"))
				}
			}

			var said []string
			c, err := Parse("config.toml", []byte(input.String()), "testdata", nil, environ)
			if err != nil {
				var list *Error
				if !errors.As(err, &list) || c != nil {
					t.Fatalf("Parse gave %v and an error that is no *Error: %v", c, err)
				}
				said = strings.Split(err.Error(), "\n")
			} else {
				said = c.Warnings
			}
			var got strings.Builder
			for _, line := range said {
				line = strings.ReplaceAll(line, dir, "DIR")
				got.WriteString("#= " + line + "\n")
			}
			if strings.Contains(got.String(), "hunter2") || strings.Contains(got.String(), "s3cret") {
				t.Errorf("a password is in the message:\n%s", got.String())
			}
			if *update {
				if err := os.WriteFile(file, []byte(input.String()+got.String()), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got.String() != want.String() {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want.String())
			}
		})
	}
}
