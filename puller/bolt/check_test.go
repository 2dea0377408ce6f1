package bolt_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/storetest"
)

// TestChecker has other commands in the place of the one that checks the file.
func TestChecker(t *testing.T) {
	sh := func(script string) []string { return []string{"/bin/sh", "-c", "echo checking; " + script} }
	for name, c := range map[string]struct {
		checker []string
		aside   bool
		log     string
	}{
		"none":                       {nil, false, ""},
		"says that it is whole":      {sh("echo whole"), false, ""},
		"says that it is damaged":    {sh("echo damaged: of old age"), true, "of old age"},
		"ends as Go does":            {sh("echo fatal error: stack overflow >&2; exit 2"), true, "the check of the file crashed: exit status 2: fatal error: stack overflow"},
		"ends by a fault":            {sh("kill -BUS $$"), true, "the check of the file crashed: signal: bus error"},
		"is killed":                  {sh("kill -KILL $$"), false, "could not be checked"},
		"is stopped":                 {sh("kill -TERM $$"), false, "could not be checked"},
		"fails":                      {sh("echo failed: no memory"), false, "failed: no memory"},
		"says nothing":               {sh("exit 0"), false, "could not be checked"},
		"is another program":         {[]string{"/bin/sh", "-c", "exit 2"}, false, "could not be checked"},
		"is not there":               {[]string{"/nowhere/towline"}, false, "could not be checked"},
		"says too much":              {sh("echo whole; yes | head -c 1000000 >&2"), false, ""},
		"is whole, and then crashes": {sh("echo whole; exit 2"), true, "the check of the file crashed"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newMemoryBox(t)
			s := b.open()
			save(t, s, 5, storetest.NewRecord(1))
			closeIt(t, s)
			o := b.options()
			o.Checker = c.checker
			s, err := bolt.Open(t.Context(), b.dir, o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, unended, err := s.Load(); err != nil || (len(unended) == 0) != c.aside {
				t.Errorf("%d records are there, %v", len(unended), err)
			}
			if n := len(b.aside()); (n == 1) != c.aside {
				t.Errorf("%d files were set aside", n)
			}
			if log := b.log.String(); !strings.Contains(log, c.log) || c.log == "" && log != "" {
				t.Errorf("the log is %s", log)
			}
		})
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	b := newBox(t)
	closeIt(t, b.open())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o := b.options()
	o.Checker = []string{"/bin/sh", "-c", "echo checking; exec sleep 100"}
	if s, err := bolt.Open(ctx, b.dir, o); err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("Open gives %v, %v", s, err)
	}
	b.open() // the lock is free
}

func TestCheckSaysWhatItFound(t *testing.T) {
	b := newBox(t)
	s := b.open()
	fill(t, s)
	closeIt(t, s)
	check := func() string {
		said, err := exec.CommandContext(t.Context(), checker[0], append(checker[1:], b.file())...).Output()
		if err != nil {
			t.Error(err)
		}
		return string(said)
	}
	if said := check(); said != "checking\nwhole\n" {
		t.Errorf("of a whole file it says %q", said)
	}
	if err := os.Truncate(b.file(), 5000); err != nil {
		t.Fatal(err)
	}
	if said := check(); !strings.HasPrefix(said, "checking\nfailed: ") {
		t.Errorf("of a short file it says %q", said)
	}
	if err := os.WriteFile(b.file(), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := check(); !strings.HasPrefix(said, "checking\ndamaged: ") {
		t.Errorf("of zeros it says %q", said)
	}
	if err := os.Remove(b.file()); err != nil {
		t.Fatal(err)
	}
	if said := check(); !strings.HasPrefix(said, "checking\nfailed: ") {
		t.Errorf("of no file it says %q", said)
	}
}
