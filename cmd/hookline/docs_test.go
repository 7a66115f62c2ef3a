package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hookline/hookline/transforms"
)

// pages are the texts for people, by their paths in the repository.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || path != root && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ".md" || filepath.Ext(path) == ".toml" {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			all[filepath.ToSlash(name)] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeFence = regexp.MustCompile("(?ms)^```.*?^```$")
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInLink = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names that GitHub gives to a page's headings.
func anchors(text string) (names, twice []string) {
	for _, h := range heading.FindAllStringSubmatch(codeFence.ReplaceAllString(text, ""), -1) {
		name := strings.ReplaceAll(notInLink.ReplaceAllString(strings.ToLower(strings.TrimSpace(h[1])), ""), " ", "-")
		if slices.Contains(names, name) {
			twice = append(twice, name)
		}
		names = append(names, name)
	}
	return names, twice
}

// Every link between the pages leads somewhere.
func TestDocsLinks(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		if filepath.Ext(page) != ".md" {
			continue
		}
		if _, twice := anchors(text); len(twice) > 0 && page != "CHANGELOG.md" {
			t.Errorf("%s has two headings of one name: %q", page, twice)
		}
		for _, m := range link.FindAllStringSubmatch(codeFence.ReplaceAllString(text, ""), -1) {
			to, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			target := page
			if to != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), to))
			}
			if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(target))); err != nil {
				t.Errorf("%s: %s leads to nothing", page, m[1])
				continue
			}
			if names, _ := anchors(all[target]); anchor != "" && !slices.Contains(names, anchor) {
				t.Errorf("%s: %s has no heading #%s", page, target, anchor)
			}
		}
		if name, ok := strings.CutPrefix(page, "docs/"); ok && !strings.Contains(all["README.md"], "](docs/"+name+")") {
			t.Errorf("README.md does not lead to %s", page)
		}
	}
}

// What the pages say of ctx is there.
func TestDocsContext(t *testing.T) {
	of := regexp.MustCompile(`\bctx\.([A-Za-z0-9]+)`)
	_, context, _ := strings.Cut(transforms.Types, "interface Context {")
	context, _, _ = strings.Cut(context, "\n  }\n")
	for page, text := range pages(t) {
		for _, m := range of.FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`(?m)^\s+(readonly )?` + m[1] + `[(:?<]`).MatchString(context) {
				t.Errorf("%s: the types know no %s", page, m[0])
			}
		}
	}
	table := pages(t)["docs/transforms.md"]
	for _, m := range regexp.MustCompile(`(?m)^    (?:readonly )?([a-zA-Z0-9]+)[(:]`).FindAllStringSubmatch(context, -1) {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + m[1] + "[`(.]").MatchString(table) {
			t.Errorf("docs/transforms.md does not have ctx.%s in its table", m[1])
		}
	}
}

var (
	inline  = regexp.MustCompile("`(hookline [^`]+)`")
	example = regexp.MustCompile(`(?m)^(?:#? {3,}|\$ |)(?:[A-Z_]+=\S+ |go build \S+ \S+ \. && )?(hookline (?:[^\\\n]|\\\n)*)$`)
)

// Every command that the pages and the help texts show is one, with its flags.
func TestDocsCommands(t *testing.T) {
	found := 0
	look := func(where, line string) {
		line = strings.NewReplacer("\\\n", " ", `\|`, "|", "…", "X").Replace(line)
		for _, part := range strings.Split(line, " && ") {
			fields := words(part)
			if len(fields) == 0 || fields[0] != "hookline" {
				continue
			}
			found++
			if err := unknownIn(fields[1:]); err != "" {
				t.Errorf("%s: %s: %s", where, part, err)
			}
		}
	}
	for page, text := range pages(t) {
		if page == "CHANGELOG.md" { // of versions before, too
			continue
		}
		for _, m := range append(inline.FindAllStringSubmatch(text, -1), example.FindAllStringSubmatch(text, -1)...) {
			look(page, m[1])
		}
	}
	eachCommand(command(), func(c *cobra.Command) {
		for _, m := range example.FindAllStringSubmatch("   "+strings.ReplaceAll(c.Example, "\n  ", "\n   "), -1) {
			look(c.CommandPath()+" --help", m[1])
		}
		for _, m := range inline.FindAllStringSubmatch(c.Long, -1) {
			look(c.CommandPath()+" --help", m[1])
		}
	})
	if found < 150 {
		t.Errorf("only %d commands were found: does the test still look for them rightly?", found)
	}
}

// words divides a command line as a shell does, up to a pipe, a redirection or a
// comment.
func words(line string) []string {
	var out []string
	var word strings.Builder
	var quote rune
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote = r
		case unicode.IsSpace(r):
			if word.Len() > 0 {
				out = append(out, word.String())
			}
			word.Reset()
		case strings.ContainsRune("|><&;#", r) && word.Len() == 0:
			return out
		default:
			word.WriteRune(r)
		}
	}
	return out
}

// unknownIn says what is wrong with a command line, "" for nothing. Of alternatives
// (list|show) each has to be one.
func unknownIn(args []string) string {
	for i, arg := range args {
		if strings.HasPrefix(arg, "-") {
			break
		}
		if alternatives := strings.Split(arg, "|"); len(alternatives) > 1 {
			for _, a := range alternatives {
				if err := unknownIn(slices.Concat(args[:i], []string{a}, args[i+1:])); err != "" {
					return err
				}
			}
			return ""
		}
	}
	c, rest, err := command().Find(args)
	if err != nil {
		return err.Error()
	}
	if c.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		return "there is no " + c.CommandPath() + " " + rest[0]
	}
	for _, arg := range rest {
		name, value, valued := strings.Cut(arg, "=")
		name = strings.Trim(name, "[]")
		var flag *pflag.Flag
		switch {
		case strings.HasPrefix(name, "--"):
			flag = c.Flag(name[2:])
		case strings.HasPrefix(name, "-") && len(name) == 2:
			flag = c.Flags().ShorthandLookup(name[1:])
		default:
			continue
		}
		if flag == nil && name != "--help" {
			return "there is no flag " + name
		}
		if valued && value == "" {
			return name + " has no value"
		}
	}
	return ""
}

func eachCommand(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" { // they are cobra's
			eachCommand(sub, do)
		}
	}
}

// Each command that does something says what its exit codes mean, and each flag that
// takes a value says in capitals what that is.
func TestHelpTexts(t *testing.T) {
	for line, want := range map[string][]string{
		`hookline deliveries retry ID --reason "up again" | tee log`: {"hookline", "deliveries", "retry", "ID", "--reason", "up again"},
		"hookline serve   # in the foreground":                       {"hookline", "serve"},
	} {
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("%s is %q", line, got)
		}
	}
	eachCommand(command(), func(c *cobra.Command) {
		if c.Runnable() && !c.HasSubCommands() && !slices.Contains([]string{"version"}, c.Name()) && !strings.Contains(c.Long, "Exit code 0:") {
			t.Errorf("%s --help does not tell the exit codes", c.CommandPath())
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 92 {
				t.Errorf("%s --help has a line of %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); name != strings.ToUpper(name) {
				t.Errorf("%s --%s takes a %q: name it in capitals, in backquotes in its usage", c.CommandPath(), f.Name, name)
			}
		})
	})
}

// What a flag takes of a closed set is completed, also behind a comma.
func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"events retry --kind":                   "insert\nupdate\nreview\n",
		"deliveries list --state queued,held,d": "queued,held,dead\n",
		"events list --state":                   "queued\n",
		"serve --log-level":                     "debug\ninfo\nwarn\nerror\n",
		"serve --log-format":                    "auto\ntext\njson\n",
	} {
		args := append([]string{"__completeNoDesc"}, strings.Fields(line)...)
		if !strings.Contains(args[len(args)-1], ",") {
			args = append(args, "")
		}
		code, out, errs := hooklineHere(args...)
		if code != 0 || !strings.Contains(out, want) || !strings.Contains(errs, "ShellCompDirectiveNoFileComp") {
			t.Errorf("%s: exit %d\n%s%s", line, code, out, errs)
		}
	}
}
