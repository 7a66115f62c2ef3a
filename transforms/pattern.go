package transforms

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

// posix is a class of RE2's, which JavaScript reads as the characters it is
// written with.
var posix = regexp.MustCompile(`\[\^?[^\]]*\[:\^?[a-z]+:\]`)

// groupName is the beginning of a group with a name.
var groupName = regexp.MustCompile(`\(\?<([^=!>][^>]*)>`)

// patternProblems tells what is wrong with a regular expression for the script
// engine, and what to take care of. Most run on Go's regexp (RE2); those with
// lookaround or backreferences on regexp2.
func patternProblems(rt *goja.Runtime, pattern, flags string) (problems, warnings []string) {
	kept := flags
	if strings.Contains(flags, "d") {
		problems = append(problems, "the flag d of a regular expression is not known: use the match's index and the lengths of its groups")
		kept = strings.ReplaceAll(kept, "d", "")
	}
	if strings.Contains(flags, "v") {
		return append(problems, "the flag v of a regular expression is not known: use u, and write the ranges out"), nil
	}
	unicode := strings.Contains(flags, "u")
	_, err := parser.TransformRegExp(pattern, strings.Contains(flags, "s"), unicode)
	var incompatible parser.RegexpErrorIncompatible
	re2 := err == nil || !errors.As(err, &incompatible)
	if unicode && hasProperty(pattern) && re2 {
		return append(problems, `\p{...} in a regular expression matches wrongly here: write the ranges out, such as [A-Za-z\u00C0-\u024F] for letters of Europe`), nil
	}
	if re2 && posix.MatchString(pattern) {
		problems = append(problems, "[:class:] in a regular expression is not JavaScript: write the ranges out")
	}
	if _, err := rt.New(rt.Get("RegExp"), rt.ToValue(pattern), rt.ToValue(kept)); err != nil {
		var thrown *goja.Exception
		text := err.Error()
		if errors.As(err, &thrown) {
			text = thrown.Value().String()
		}
		problems = append(problems, fmt.Sprintf("the script engine does not take this regular expression: %s", strings.TrimPrefix(text, "SyntaxError: ")))
	}
	names := map[string]bool{}
	for _, m := range groupName.FindAllStringSubmatch(unescaped(pattern), -1) {
		if names[m[1]] {
			problems = append(problems, fmt.Sprintf("two groups of a regular expression are called %s, and only one of them is seen: give each a name of its own", m[1]))
		}
		names[m[1]] = true
	}
	if strings.Contains(flags, "m") && strings.ContainsAny(unescaped(pattern), "^$") {
		warnings = append(warnings, `^ and $ of a regular expression with the flag m know only \n as the end of a line, not \r: split HL7 text with split(/[\r\n]+/) first`)
	}
	return problems, warnings
}

var (
	escape = regexp.MustCompile(`(?s)\\.`)
	class  = regexp.MustCompile(`\[[^\]]*\]`)
)

// unescaped is a pattern without what is escaped or in a class.
func unescaped(pattern string) string {
	return class.ReplaceAllLiteralString(escape.ReplaceAllLiteralString(pattern, "_"), "_")
}

// hasProperty tells whether a pattern asks for a Unicode property.
func hasProperty(pattern string) bool {
	for i := 0; i+1 < len(pattern); i++ {
		if pattern[i] == '\\' {
			if i++; pattern[i] == 'p' || pattern[i] == 'P' {
				return true
			}
		}
	}
	return false
}
