package bolt_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/puller/storetest"
)

func TestRightsToTheDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		mode    os.FileMode
		foreign bool
		after   os.FileMode
		log     string
		err     string
	}{
		"none for others":                   {0o700, true, 0o700, "", ""},
		"others can look in":                {0o755, false, 0o700, "other users had rights to state_dir", ""},
		"the group can look in":             {0o750, false, 0o700, "other users had rights to state_dir", ""},
		"others can write":                  {0o777, false, 0o700, "other users had rights to state_dir", ""},
		"others can look into a shared one": {0o755, true, 0o755, "other users can look into state_dir", ""},
		"others can write to a shared one":  {0o777 | os.ModeSticky, true, 0o777, "", "other users can write to it (mode 0777), and it holds a file"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			closeIt(t, b.open())
			for _, known := range []string{"output", "jobs.db.damaged-20261121T140000Z"} {
				if err := os.Mkdir(filepath.Join(b.dir, known), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if c.foreign {
				if err := os.WriteFile(filepath.Join(b.dir, "a file"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(b.dir, c.mode); err != nil {
				t.Fatal(err)
			}
			s, err := bolt.Open(t.Context(), b.dir, b.options())
			if err == nil {
				defer s.Close()
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), "state_dir "+b.dir+": "+c.err)) {
				t.Errorf("Open gives %v", err)
			}
			info, err := os.Stat(b.dir)
			if err != nil || info.Mode().Perm() != c.after {
				t.Errorf("the mode is %v, %v", info.Mode(), err)
			}
			if log := b.log.String(); !strings.Contains(log, c.log) || c.log == "" && log != "" {
				t.Errorf("the log is %s", log)
			}
		})
	}
}

// A Save to a file without a name would be lost at the next start.
func TestFileIsRemovedWhileOpen(t *testing.T) {
	for name, remove := range map[string]func(b *box) error{
		"removed": func(b *box) error { return os.Rename(b.file(), b.file()+".away") },
		"replaced": func(b *box) error {
			data, err := os.ReadFile(b.file())
			if err != nil {
				return err
			}
			if err := os.Rename(b.file(), b.file()+".away"); err != nil {
				return err
			}
			return os.WriteFile(b.file(), data, 0o600)
		},
		"removed with its directory": func(b *box) error { return os.Rename(b.dir, b.dir+".away") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			s := b.open()
			save(t, s, 1, storetest.NewRecord(1))
			if err := remove(b); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for what, err := range map[string]error{
					"Save":              s.Save(2, []store.Record{storetest.NewRecord(2)}),
					"Save of no record": s.Save(2, nil),
					"KeepPrivate":       s.KeepPrivate("sha256:1"),
				} {
					if err == nil || !strings.Contains(err.Error(), "state_dir "+b.dir) || puller.KindOf(err) != puller.ErrInternal {
						t.Errorf("%s gives %v", what, err)
					}
				}
			}
			if name == "removed with its directory" {
				return
			}
			if err := s.Save(2, nil); !strings.Contains(err.Error(), "was removed or replaced while towline was running") {
				t.Errorf("Save gives %v", err)
			}
			if err := os.Rename(b.file()+".away", b.file()); err != nil {
				t.Fatal(err)
			}
			save(t, s, 3, storetest.NewRecord(3)) // it is back
			if seq, unended, err := s.Load(); seq != 3 || len(unended) != 2 || err != nil {
				t.Errorf("seq %d, %d records, %v", seq, len(unended), err)
			}
		})
	}
}
