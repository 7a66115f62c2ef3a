package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// file is the path of a file that must exist.
func file(out *string, what string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if s == "" {
			d.fail(p, "must name %s", what)
			return
		}
		if full, _, ok := d.existing(p, s); ok {
			*out = full
		}
	}
}

// existing finds a file relative to the configuration's.
func (d *decoder) existing(p path, name string) (full string, info fs.FileInfo, ok bool) {
	full = abs(d.dir, name)
	if d.past {
		return full, nil, true
	}
	info, err := os.Stat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fail(p, "there is no file %s; a relative path is relative to the configuration file", quote(full))
	case err != nil:
		d.fail(p, "the file %s cannot be used: %s", quote(full), reason(err))
	case info.IsDir():
		d.fail(p, "%s is a folder; name a file", quote(full))
	default:
		return full, info, true
	}
	return "", nil, false
}

// script is the path of a transform.
func script(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		switch filepath.Ext(s) {
		case ".ts", ".mts", ".js", ".mjs":
		default:
			d.fail(p, "%s must be a script that ends in .ts or .js; leave transform out to send the event as it came", quote(s))
			return
		}
		if full, _, ok := d.existing(p, s); ok {
			*out = full
		}
	}
}

func isPath(plugin string) bool { return strings.Contains(plugin, "/") || filepath.IsAbs(plugin) }

// plugin is the name of a built-in plugin or the path of an executable. Whether
// the name exists is the app's to know.
func plugin(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		switch {
		case !ok:
		case !isPath(s):
			if !namePattern.MatchString(s) || len(s) > maxName {
				d.fail(p, `%s is neither a built-in plugin, such as "http", nor a path; a path has a /, such as "./my-plugin"`, quote(s))
				return
			}
			*out = s
		default:
			full, info, ok := d.existing(p, s)
			if !ok {
				return
			}
			if !d.past && !executable(info) {
				d.fail(p, "%s cannot be executed: chmod +x it", quote(full))
			}
			*out = full
		}
	}
}

var sha256Pattern = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

func checksum(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if !sha256Pattern.MatchString(s) {
			d.fail(p, "must be 64 hexadecimal digits: what sha256sum prints for the plugin")
			return
		}
		*out = strings.ToLower(s)
	}
}

// attachment is the path of a file that need not be there yet.
func attachment(out *string) field {
	return func(d *decoder, p path, value any) {
		s, ok := d.str(p, value, "a string")
		if !ok {
			return
		}
		if s == "" {
			d.fail(p, "must name the file that the plugin writes, which you run with HOOKLINE_ATTACH set to it")
			return
		}
		*out = abs(d.dir, s)
	}
}
