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

// rows returns the lines of a table, with one space between columns.
func rows(table string) (all []string) {
	for _, line := range strings.Split(strings.TrimSpace(table), "\n") {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	return all
}

func TestImages(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	unique := int64(1_500_000)
	var b strings.Builder
	err := tables.Images(&b, []keep.Image{
		{ID: "sha256:" + strings.Repeat("a", 64), Names: []string{"docker.io/library/redis:7"}, Size: 3_000_000, Unique: &unique, Owner: keep.OwnerTowline, UsedAt: now.Add(-72 * time.Hour),
			Kept: []keep.Kept{{Reason: keep.ReasonContainer, Detail: "a"}, {Reason: keep.ReasonContainer, Detail: "b\x1b[2J"}, {Reason: keep.ReasonYoung}, {Reason: keep.ReasonSet, Detail: "web"}}},
		{ID: "sha256:" + strings.Repeat("b", 64), Size: 1000, Owner: keep.OwnerOther, UsedAt: now.Add(-3 * time.Hour)},
		{ID: "sha256:c", Names: []string{"x\ny"}, Owner: keep.OwnerOther, UsedAt: now.Add(-10 * time.Minute)},
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"IMAGE SIZE FREES OWNER USED STAYS FOR",
		"docker.io/library/redis:7 3.0 MB 1.5 MB towline 3 days ago container: a, container: b�[2J, min age, 1 more",
		"sha256:bbbbbbbbbbbb… 1.0 kB unknown other 3 hours ago",
		"x y 0 B unknown other 10 minutes ago",
	}
	if diff := cmp.Diff(want, rows(b.String())); diff != "" {
		t.Error(diff)
	}
}

func TestChanges(t *testing.T) {
	at, freed := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC), int64(2_000_000)
	var b strings.Builder
	err := tables.Changes(&b, []puller.Event{
		{Time: at, Image: &puller.ImageChange{Action: puller.ImageRestored, Names: []string{"docker.io/library/redis:7"}, Set: "web\x1b[2J"}},
		{Time: at, Image: &puller.ImageChange{Action: puller.ImageRemoved, ID: "sha256:" + strings.Repeat("a", 64), Size: 3_000_000, Freed: &freed, Why: "high"}},
		{Time: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"TIME IMAGE WHAT SIZE FREED FOR",
		"2026-08-01T12:00:00Z docker.io/library/redis:7 restored set web�[2J",
		"2026-08-01T12:00:00Z sha256:aaaaaaaaaaaa… removed 3.0 MB 2.0 MB high",
	}
	if diff := cmp.Diff(want, rows(b.String())); diff != "" {
		t.Error(diff)
	}
}

func TestCollection(t *testing.T) {
	freed := int64(2_000_000)
	c := keep.Collection{
		DryRun: true, Before: &puller.Disk{Total: 10e6, Free: 1e6}, After: &puller.Disk{Total: 10e6, Free: 3e6}, Blocked: "the disk is full",
		Removed: []keep.CollectedImage{{ID: "sha256:1", Names: []string{"a:1"}, Freed: &freed, Why: "high"}, {ID: "sha256:2", Why: "unused"}},
		Stayed:  []keep.KeptBack{{ID: "sha256:3", Names: []string{"c:1"}, Size: 5000, Kept: []keep.Kept{{Reason: keep.ReasonNotNeeded}}}},
	}
	for dryRun, want := range map[bool]string{
		true: "a:1 2.0 MB would be removed (high)\nsha256:2 would be removed (unused)\nc:1 5.0 kB stays (not needed)\n" +
			"2 images would be removed; the disk would have 3.0 MB free of 10.0 MB, and has 1.0 MB\nthe disk is full",
		false: "a:1 2.0 MB removed (high)\nsha256:2 removed (unused)\nc:1 5.0 kB stays (not needed)\n2 images removed; the disk has 3.0 MB free of 10.0 MB, and had 1.0 MB\nthe disk is full",
	} {
		c.DryRun = dryRun
		var b strings.Builder
		if err := tables.Collection(&b, c); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		if diff := cmp.Diff(want, strings.Join(lines, "\n")); diff != "" {
			t.Error(diff)
		}
	}
}
