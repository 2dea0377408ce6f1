package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestDocumentedCommands reads the pages: each command line of towline in them names a
// command and flags that there are.
func TestDocumentedCommands(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".c") || entry.Name() == "dist"): // what builds leave
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".md") && !strings.Contains(path, "/configs/ci/"):
			return nil
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for number, line := range strings.Split(string(page), "\n") {
			for _, command := range commands(line) {
				found++
				if err := known(command); err != nil {
					t.Errorf("%s:%d: %s: %v", path, number+1, strings.Join(command, " "), err)
				}
			}
		}
		return nil
	})
	if err != nil || found < 30 {
		t.Errorf("%d commands were found: %v", found, err)
	}
}

// commands returns the command lines of towline in a line of a page: those that stand by
// themselves, and those between backquotes.
func commands(line string) (all [][]string) {
	texts := []string{line}
	if parts := strings.Split(line, "`"); len(parts) > 1 {
		texts = texts[:0]
		for i := 1; i < len(parts); i += 2 {
			texts = append(texts, parts[i])
		}
	}
	for _, text := range texts {
		text, _, _ = strings.Cut(text, "#")
		for _, one := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '&' || r == '|' }) {
			fields := strings.Fields(strings.TrimLeft(one, " $-"))
			if len(fields) > 0 && fields[0] == "sudo" {
				fields = fields[1:]
			}
			if len(fields) > 1 && (fields[0] == "towline" || fields[0] == "bin/towline") && !strings.ContainsAny(one, "…[]{}<>") {
				all = append(all, fields[1:])
			}
		}
	}
	return all
}

func known(args []string) error {
	for i, a := range args {
		args[i] = strings.Trim(a, `"',.:`)
	}
	cmd, rest, err := newRoot().Find(args)
	if err != nil {
		return err
	}
	if cmd.DisableFlagParsing {
		return nil
	}
	if err := cmd.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return nil
}
