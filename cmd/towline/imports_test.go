package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/towline/towline"

// rules says, for each package of the module, which others of it it may
// import, and whether it is held to the standard library beside them. Tests
// are not held to it.
var rules = map[string]struct {
	ours     []string
	standard bool
}{
	"stream":                        {standard: true},
	"stream/pullstream":             {standard: true},
	"stream/pullstream/transcripts": {standard: true}, // test data
	"puller":                        {ours: []string{"stream", "stream/pullstream"}},
	"puller/docker":                 {ours: []string{"puller", "stream", "stream/pullstream"}},
	"puller/registry":               {ours: []string{"puller", "stream", "stream/pullstream"}},
	"puller/mirror":                 {ours: []string{"puller", "stream", "stream/pullstream"}},
	"puller/bolt":                   {ours: []string{"puller", "stream", "stream/pullstream"}},
	"puller/enginetest":             {ours: []string{"puller", "puller/enginetest/actor", "stream", "stream/pullstream", "stream/pullstream/transcripts"}}, // for tests
	"puller/storetest":              {ours: []string{"puller", "stream", "stream/pullstream"}},                                                             // for tests
	"puller/enginetest/actor":       {},                                                                                                                    // for containers
	"api":                           {ours: []string{"puller", "stream", "stream/pullstream", "api/auth", "api/ui", "api/compose"}},
	"api/auth":                      {ours: []string{"puller"}},
	"api/auth/authtest":             {ours: []string{"api/auth"}}, // for tests
	"api/client":                    {ours: []string{"puller", "stream", "stream/pullstream"}},
	"api/compose":                   {ours: []string{"puller", "stream", "stream/pullstream"}},
	"api/ui":                        {standard: true},
	"configs":                       {},
	"cmd/towline": {ours: []string{
		"api", "api/auth", "api/client", "api/compose", "configs", "puller", "stream", "stream/pullstream",
		"puller/docker", "puller/registry", "puller/mirror", "puller/bolt",
	}},
}

// only says who may import what is kept in one place.
var only = map[string][]string{
	"github.com/docker/docker": {"puller/docker"},
	"testing":                  {"puller/enginetest", "puller/storetest", "api/auth/authtest"},
}

// listed is a package as go list tells it.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-test=false", "-json=ImportPath,Standard,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(string(exit.Stderr))
		}
		t.Fatalf("%s: %v", cmd, err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// within returns a package's path in the module.
func within(importPath string) (string, bool) { return strings.CutPrefix(importPath, module+"/") }

// faults holds packages against the rules.
func faults(packages []listed) []string {
	standard := map[string]bool{"C": true}
	for _, p := range packages {
		standard[p.ImportPath] = p.Standard
	}
	var all []string
	for _, p := range packages {
		name, ours := within(p.ImportPath)
		if !ours {
			continue
		}
		rule, known := rules[name]
		if !known {
			all = append(all, name+" has no rule: give it one, as DESIGN.md has it")
			continue
		}
		for _, i := range p.Imports {
			other, ours := within(i)
			switch {
			case ours && !slices.Contains(rule.ours, other):
				all = append(all, name+" must not import "+other)
			case !ours && rule.standard && !standard[i]:
				all = append(all, name+" must import the standard library only, not "+i)
			}
			for root, importers := range only {
				if (i == root || strings.HasPrefix(i, root+"/")) && !slices.Contains(importers, name) {
					all = append(all, name+" must not import "+i)
				}
			}
		}
	}
	return all
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	packages := list(t)
	var seen []string
	for _, p := range packages {
		if name, ours := within(p.ImportPath); ours {
			seen = append(seen, name)
		}
	}
	for _, name := range []string{"stream", "puller", "puller/docker", "api", "api/auth", "api/client", "configs", "cmd/towline"} {
		if !slices.Contains(seen, name) {
			t.Errorf("%s was not looked at", name)
		}
	}
	for _, f := range faults(packages) {
		t.Error(f)
	}
}

func TestTheImportRulesSeeWhatBreaksThem(t *testing.T) {
	for name, p := range map[string]listed{
		"a package without a rule":      {ImportPath: "util"},
		"a sibling":                     {ImportPath: "puller/bolt", Imports: []string{module + "/puller/docker"}},
		"a parent that knows its child": {ImportPath: "puller", Imports: []string{module + "/puller/docker"}},
		"a leaf that grows":             {ImportPath: "stream", Imports: []string{"github.com/sirupsen/logrus"}},
		"a leaf with a friend":          {ImportPath: "configs", Imports: []string{module + "/stream"}},
		"the SDK elsewhere":             {ImportPath: "puller", Imports: []string{"github.com/docker/docker/client"}},
		"test code in the program":      {ImportPath: "cmd/towline", Imports: []string{module + "/puller/enginetest"}},
		"the API that knows an engine":  {ImportPath: "api", Imports: []string{module + "/puller/docker"}},
	} {
		p.ImportPath = path.Join(module, p.ImportPath)
		if got := faults([]listed{p}); len(got) != 1 {
			t.Errorf("%s: %q", name, got)
		}
	}
	fine := listed{ImportPath: module + "/stream", Imports: []string{"io"}}
	if got := faults([]listed{fine, {ImportPath: "io", Standard: true}}); len(got) != 0 {
		t.Errorf("what is fine is refused: %q", got)
	}
}
