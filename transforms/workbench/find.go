package workbench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Endings are those of scripts, in the order in which a golden folder's is looked for.
var Endings = []string{".ts", ".mts", ".js", ".mjs"}

var testFile = regexp.MustCompile(`\.test\.m?[jt]s$`)

// Suite is what tests a transform: the golden pairs of a script, or a file of tests.
type Suite struct {
	Path  string // the script, or the file of tests
	Tests bool   // it is a file of tests
}

// Find looks for suites in a folder and those below it, or takes those of one
// file. It passes over node_modules and folders that begin with a dot.
func Find(target string) ([]Suite, error) {
	info, err := os.Stat(target)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return ofFile(target)
	}
	var found []Suite
	err = filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case !d.IsDir():
			if testFile.MatchString(name) {
				found = append(found, Suite{Path: path, Tests: true})
			}
			return nil
		case strings.HasSuffix(name, goldenFolder):
			script, err := scriptOf(strings.TrimSuffix(path, goldenFolder))
			if err != nil {
				return err
			}
			found = append(found, Suite{Path: script})
			return fs.SkipDir
		case path != target && (name == "node_modules" || strings.HasPrefix(name, ".")):
			return fs.SkipDir
		}
		return nil
	})
	slices.SortFunc(found, func(a, b Suite) int { return strings.Compare(a.Path, b.Path) })
	return found, err
}

// ofFile are the suites of one file: of a script its pairs and its tests.
func ofFile(path string) ([]Suite, error) {
	if testFile.MatchString(path) {
		return []Suite{{Path: path, Tests: true}}, nil
	}
	if !slices.Contains(Endings, filepath.Ext(path)) {
		return nil, fmt.Errorf("%s is no script: name a folder, or a file that ends in %s", path, strings.Join(Endings, ", "))
	}
	var found []Suite
	pairs, err := Pairs(path)
	if err != nil {
		return nil, err
	}
	if len(pairs) > 0 {
		found = append(found, Suite{Path: path})
	}
	base := strings.TrimSuffix(path, filepath.Ext(path))
	for _, ending := range Endings {
		if _, err := os.Stat(base + ".test" + ending); err == nil {
			found = append(found, Suite{Path: base + ".test" + ending, Tests: true})
		}
	}
	return found, nil
}

// scriptOf finds the script that a golden folder stands beside.
func scriptOf(base string) (string, error) {
	var found []string
	for _, ending := range Endings {
		if _, err := os.Stat(base + ending); err == nil {
			found = append(found, base+ending)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("%s%s has no script %s%s beside it: name the folder as the script", base, goldenFolder, filepath.Base(base), Endings[0])
	}
	return "", fmt.Errorf("%s%s stands beside %s: whose it is cannot be told, rename one of them", base, goldenFolder, strings.Join(found, " and "))
}
