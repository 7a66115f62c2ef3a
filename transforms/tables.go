package transforms

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// maxTables bounds the lookup files together, in bytes. It is also below what
	// one message to the process may have.
	maxTables = 16 << 20
	// maxTableFiles bounds their number.
	maxTableFiles = 256
	// maxTableDepth is how deep a .json file may be nested.
	maxTableDepth = 200
)

// Tables are lookup files as scripts see them: contents by name, such as
// "sites.csv". They have been checked and must not be changed any more. Nil: there
// are none.
type Tables struct {
	files   map[string][]byte
	digests map[string]string // SHA-256 in hex, by name
}

// ReadTables reads the .csv and .json files of a folder, not of those below it.
// Other files are left alone, and so are those whose name begins with a dot. The
// error joins all that is wrong and quotes no contents.
func ReadTables(dir string) (*Tables, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no folder %s; a relative path is relative to the configuration file: %w", dir, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("the folder cannot be read: %w", err)
	}
	files := map[string][]byte{}
	total := int64(0)
	for _, entry := range entries {
		name := entry.Name()
		if !IsTable(name) {
			continue
		}
		path := filepath.Join(dir, name)
		// Not entry.Info, which does not follow a link: containers mount such.
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		case info.IsDir():
			continue
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s: it is not a regular file", name)
		}
		if total += info.Size(); total > maxTables {
			return nil, fmt.Errorf("%s: with it the files have %d bytes together, the limit is %d MiB", name, total, maxTables>>20)
		}
		if files[name], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return NewTables(files)
}

// IsTable tells whether a file of the folder is read, by its name.
func IsTable(name string) bool {
	ext := filepath.Ext(name)
	return !strings.HasPrefix(name, ".") && (ext == ".csv" || ext == ".json")
}

// NewTables checks contents, by name, and makes them Tables. The contents must not
// be changed afterwards.
func NewTables(files map[string][]byte) (*Tables, error) {
	t := &Tables{files: make(map[string][]byte, len(files)), digests: make(map[string]string, len(files))}
	if len(files) > maxTableFiles {
		return nil, fmt.Errorf("there are %d files, the limit is %d", len(files), maxTableFiles)
	}
	total := 0
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		if total += len(content); total > maxTables {
			return nil, fmt.Errorf("%s: with it the files have %d bytes together, the limit is %d MiB", name, total, maxTables>>20)
		}
		if _, err := newTable(name, content); err != nil {
			problems = append(problems, fmt.Errorf("%s%w", name, err))
			continue
		}
		sum := sha256.Sum256(content)
		t.files[name], t.digests[name] = content, hex.EncodeToString(sum[:])
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

// Files are the contents by name.
func (t *Tables) Files() map[string][]byte {
	if t == nil {
		return nil
	}
	return t.files
}

// Digests are the SHA-256 of the contents in hex, by name.
func (t *Tables) Digests() map[string]string {
	if t == nil {
		return nil
	}
	return t.digests
}

// table is one lookup file as the script process holds it: read once, shared by
// all sandboxes, never changed.
type table struct {
	value any // of .json: nil, bool, string, tableNumber, []any or *tableObject

	csv     bool
	columns []string
	number  map[string]int // of a column
	rows    [][]string
	indexes []index // by column
}

// index finds the rows of a column's value. It is made when it is first asked for.
type index struct {
	once sync.Once
	rows map[string][]int32
}

// tableNumber are the digits of a number, as the file has them.
type tableNumber string

// tableObject is an object of JSON, its keys in order.
type tableObject struct {
	keys   []string
	values map[string]any
}

// newTable reads a file. The error goes on from the file's name: ": ...", or
// ":12: ..." with a line.
func newTable(name string, content []byte) (*table, error) {
	content = bytes.TrimPrefix(content, []byte(utf8BOM))
	if !utf8.Valid(content) {
		return nil, fmt.Errorf(":%d: it is not UTF-8: save it as such", invalidLine(content))
	}
	if filepath.Ext(name) == ".json" {
		return newJSONTable(content)
	}
	return newCSVTable(content)
}

func invalidLine(content []byte) int {
	at := 0
	for at < len(content) {
		r, n := utf8.DecodeRune(content[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return lineAt(content, at)
}

func lineAt(content []byte, at int) int {
	return bytes.Count(content[:min(at, len(content))], []byte("\n")) + 1
}

func newCSVTable(content []byte) (*table, error) {
	t := &table{csv: true}
	r := csv.NewReader(bytes.NewReader(content))
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New(": it is empty: the first line names the columns")
	} else if err != nil {
		return nil, csvError(err)
	}
	if len(header) == 1 && strings.ContainsAny(header[0], ";\t") {
		return nil, errors.New(":1: the columns must be divided by commas: save it as comma separated (RFC 4180)")
	}
	t.columns, t.number, t.indexes = header, make(map[string]int, len(header)), make([]index, len(header))
	for i, column := range header {
		if strings.TrimSpace(column) == "" {
			return nil, fmt.Errorf(":1: column %d has no name", i+1)
		}
		if _, twice := t.number[column]; twice {
			return nil, fmt.Errorf(":1: there are two columns %.60q", column)
		}
		t.number[column] = i
	}
	if t.rows, err = r.ReadAll(); err != nil {
		return nil, csvError(err)
	}
	return t, nil
}

// csvError says what is wrong without the line's contents.
func csvError(err error) error {
	var at *csv.ParseError
	if !errors.As(err, &at) {
		return fmt.Errorf(": %w", err)
	}
	rule := at.Err.Error()
	switch {
	case errors.Is(err, csv.ErrFieldCount):
		rule = "it has not as many fields as the first line has columns"
	case errors.Is(err, csv.ErrBareQuote):
		rule = `there is a " in a field that does not begin with one: put the field in "..." and write "" for it`
	case errors.Is(err, csv.ErrQuote):
		rule = `a " is not closed, or something follows the closing one`
	}
	return fmt.Errorf(":%d: %s", at.Line, rule)
}

func newJSONTable(content []byte) (*table, error) {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	value, err := tableValue(dec, 0)
	if err == nil {
		if _, end := dec.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("there is more than one JSON value")
		}
	}
	if err != nil {
		// The place is where the last token ended, or what follows.
		at := len(content) - len(bytes.TrimLeft(content[dec.InputOffset():], " \t\r\n,:"))
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			err = errors.New("it is not JSON") // the text of the error may quote it
		} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it is not JSON: it ends too early")
		}
		return nil, fmt.Errorf(":%d: %w", lineAt(content, at), err)
	}
	return &table{value: value}, nil
}

func tableValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxTableDepth {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxTableDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Number:
		return tableNumber(v), nil
	case json.Delim:
		if v == '[' {
			list := []any{}
			for dec.More() {
				item, err := tableValue(dec, depth+1)
				if err != nil {
					return nil, err
				}
				list = append(list, item)
			}
			_, err := dec.Token()
			return list, err
		}
		o := &tableObject{values: map[string]any{}}
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name, _ := key.(string)
			if _, twice := o.values[name]; twice {
				return nil, fmt.Errorf("the key %.60q stands twice in one object", name)
			}
			o.keys = append(o.keys, name)
			if o.values[name], err = tableValue(dec, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := dec.Token()
		return o, err
	}
	return token, nil // string, bool, nil
}

// find are the numbers of the rows whose column is value.
func (t *table) find(column int, value string) []int32 {
	x := &t.indexes[column]
	x.once.Do(func() {
		x.rows = make(map[string][]int32, len(t.rows))
		for i, row := range t.rows {
			x.rows[row[column]] = append(x.rows[row[column]], int32(i))
		}
	})
	return x.rows[value]
}
