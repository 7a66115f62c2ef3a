package transforms

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// What is kept of a script is its bundle: a line that names it, the code that
// runs, and as a comment the source map with the text of all files.
const (
	keptMark = "// hookline bundle 1: "
	mapMark  = "\n//# sourceMappingURL=data:application/json;base64,"
)

// kept is a bundle with its parts.
type kept struct {
	name string // of the entry
	code string // all but the map
	maps sourceMap
}

// sourceMap is a source map of revision 3 without sections (ECMA-426).
type sourceMap struct {
	Version        int      `json:"version"`
	Sources        []string `json:"sources"`
	SourcesContent []string `json:"sourcesContent"`
	Mappings       string   `json:"mappings"`
	Names          []string `json:"names"`
}

// head is the first line of a bundle.
func head(name string) string { return keptMark + strconv.Quote(name) }

// text is what is kept, hashed and compiled.
func (k *kept) text() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(k.maps); err != nil {
		return nil, err
	}
	return []byte(k.code + mapMark + base64.StdEncoding.EncodeToString(bytes.TrimSpace(b.Bytes())) + "\n"), nil
}

// isKept tells a bundle from the text of a script that was kept before there
// were any.
func isKept(source []byte) bool { return bytes.HasPrefix(source, []byte(keptMark)) }

func openKept(source []byte) (*kept, error) {
	first, _, _ := strings.Cut(string(source), "\n")
	name, err := strconv.Unquote(strings.TrimPrefix(first, keptMark))
	if err != nil {
		return nil, fmt.Errorf("the first line of the bundle does not name the script: %w", err)
	}
	at := bytes.LastIndex(source, []byte(mapMark))
	if at < 0 {
		return nil, fmt.Errorf("the bundle has no source map")
	}
	k := &kept{name: name, code: string(source[:at])}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(source[at+len(mapMark):])))
	if err == nil {
		err = json.Unmarshal(text, &k.maps)
	}
	if err == nil && len(k.maps.SourcesContent) != len(k.maps.Sources) {
		err = fmt.Errorf("it has %d texts for %d files", len(k.maps.SourcesContent), len(k.maps.Sources))
	}
	if err != nil {
		return nil, fmt.Errorf("the source map of the bundle: %w", err)
	}
	return k, nil
}

// content is the text of a file, as it was when it was bundled.
func (k *kept) content(file string) string {
	for i, name := range k.maps.Sources {
		if name == file {
			return k.maps.SourcesContent[i]
		}
	}
	return ""
}

// SourceFile is a file that a script was made of.
type SourceFile struct {
	Name string // as positions name it
	Text string
}

// SourceFiles takes what [Transform.Source] returned apart: the files that it was
// made of as they were, the script itself first. It returns nil for what is no
// bundle: the text of a single file.
func SourceFiles(source []byte) []SourceFile {
	if !isKept(source) {
		return nil
	}
	k, err := openKept(source)
	if err != nil {
		return nil
	}
	files := []SourceFile{{Name: k.name}}
	for i, name := range k.maps.Sources {
		switch {
		case isOwn(name):
		case name == k.name:
			files[0].Text = k.maps.SourcesContent[i]
		default:
			files = append(files, SourceFile{name, k.maps.SourcesContent[i]})
		}
	}
	return files
}
