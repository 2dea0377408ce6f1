package tables_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/cmd/towline/tables"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

func TestSets(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	all := []keep.Set{
		{
			Name: "web", Source: keep.SetFromAPI, Protect: true, LastRun: now.Add(-3 * time.Hour), NextRun: now.Add(50 * time.Hour),
			Counts:  map[keep.SetState]int{keep.SetPresent: 1, keep.SetFailed: 1},
			Images:  []keep.SetImage{{Image: "redis:7", State: keep.SetPresent}, {Image: "x\x1b[2J", Platform: "linux/arm64", State: keep.SetFailed, Reason: "no\naccess"}},
			Skipped: []puller.Skipped{{Service: "own", Reason: "it is built"}},
		},
		{Name: "base", Source: keep.SetFromFile, Refreshes: true},
		{Name: "late", Source: keep.SetFromFile, Error: "too many jobs", NextRun: now.Add(90 * time.Second)},
		{Name: "new", Source: keep.SetFromFile, NextRun: now.Add(-time.Second)},
	}
	var b strings.Builder
	if err := tables.Sets(&b, all, now); err != nil {
		t.Fatal(err)
	}
	if err := tables.Set(&b, all[0], now); err != nil {
		t.Fatal(err)
	}
	want := `SET   FROM  IMAGES               REFRESHED                   NEXT
web   api   1 present, 1 failed  3 hours ago                 in 2d2h
base  file  no image             now                         when an image is missing
late  file  no image             can't begin: too many jobs  in 1m30s
new   file  no image             never                       in 0s
web: 1 present, 1 failed, protected; refreshed: 3 hours ago; next: in 2d2h
redis:7                   present  
x\x1b[2J (linux/arm64)  failed   no access
service own               skipped  it is built
`
	got := b.String()
	if strings.Contains(got, "\x1b") {
		t.Errorf("a control character is printed: %q", got)
	}
	keep := func(s string) []string {
		var lines []string
		for line := range strings.Lines(s) {
			if !strings.HasPrefix(line, "x") {
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
		}
		return lines
	}
	if diff := cmp.Diff(keep(want), keep(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLeases(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	var b strings.Builder
	err := tables.Leases(&b, []keep.Lease{
		{ID: "01A", Images: []string{"a", "b", "c", "d"}, ExpiresAt: now.Add(2*time.Hour + 5*time.Minute), Note: "x\ny"},
		{ID: "01B", Images: []string{"a"}, ExpiresAt: now.Add(-time.Second), Job: "01J"},
	}, now)
	want := "LEASE ENDS IMAGES JOB NOTE\n01A in 2h5m a, b, 2 more x y\n01B in 0s a 01J\n"
	var lines string
	for line := range strings.Lines(b.String()) {
		lines += strings.Join(strings.Fields(line), " ") + "\n"
	}
	if diff := cmp.Diff(want, lines); diff != "" || err != nil {
		t.Errorf("%v -want +got:\n%s", err, diff)
	}
}
