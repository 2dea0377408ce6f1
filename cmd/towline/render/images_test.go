package render_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// manyImages is a prewarm of n images in which the third and the fifth are pulled, the
// first is done and the second has failed. Its children's events are among its own.
func manyImages(n int) (jobs []*puller.Job, all []puller.Event) {
	prewarm := &puller.Job{ID: "01J", Kind: puller.JobPrewarm}
	for i := range n {
		id := fmt.Sprintf("01K%02d", i)
		prewarm.Children = append(prewarm.Children, id)
		image := fmt.Sprintf("registry.example.com/a-team-with-a-long-name/service-number-%02d:1.%d.0", i, i)
		if i == 4 {
			image = "docker.io/library/redis:7"
		}
		prewarm.Images = append(prewarm.Images, puller.ImageState{Job: id, Image: image, State: puller.StateQueued})
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	add := func(j *puller.Job, e puller.Event) {
		now = now.Add(2 * time.Second)
		e.Time, e.Job = now, j.ID
		jobs, all = append(jobs, j), append(all, e)
	}
	child := func(i int) *puller.Job {
		return &puller.Job{ID: prewarm.Children[i], Kind: puller.JobPull, Image: prewarm.Images[i].Image}
	}
	end := func(i int, result *puller.Result, err *puller.JobError) {
		j := child(i)
		j.State, j.Result, j.Error = puller.StateSucceeded, result, err
		if err != nil {
			j.State = puller.StateFailed
		}
		add(child(i), puller.Event{Type: "result", Result: j})
	}
	left, more := int64(67), int64(3_700)
	active := puller.Event{Type: "state", State: puller.StateActive, Phase: puller.PhasePulling, Attempt: 1}
	add(prewarm, active)
	end(0, &puller.Result{Digest: "sha256:" + strings.Repeat("0", 64), Source: puller.SourcePulled, Downloaded: 46_400_000, DurationSeconds: 12.3, Accelerated: &puller.Accelerated{Way: puller.WayMirror}}, nil)
	end(1, nil, &puller.JobError{Kind: puller.ErrNotFound, Message: "manifest unknown"})
	for _, i := range []int{2, 4} {
		add(child(i), active)
		for l, phase := range []pullstream.Phase{pullstream.Complete, pullstream.Downloading, pullstream.Downloading, pullstream.Waiting} {
			add(child(i), puller.Event{Type: "layer", Layer: &pullstream.Layer{ID: strings.Repeat(fmt.Sprint(l), 12), Phase: phase, Current: 12_000_000, Total: 40_000_000},
				Progress: &pullstream.Totals{Downloaded: 123_400_000, Total: 456_700_000, Layers: 4, LayersDone: 1, Rate: 123_400_000, ETASeconds: &left}})
		}
	}
	add(prewarm, puller.Event{Type: "layer", Layer: &pullstream.Layer{ID: "aaaaaaaaaaaa", Phase: pullstream.Downloading},
		Progress: &pullstream.Totals{Downloaded: 293_200_000, Total: 4_567_000_000, Layers: 80, Rate: 10_000_000, ETASeconds: &more}})
	return jobs, all
}

// lastPicture returns what is on a terminal after the events, and what is there after
// the end.
func lastPicture(t *testing.T, columns, rows int, jobs []*puller.Job, all []puller.Event) (last, end string) {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		d := render.NewSized(&out, size(columns, rows, nil))
		for i, e := range all {
			d.Show(jobs[i], e)
			<-time.After(time.Second)
		}
		d.Close()
	})
	pictures := regexp.MustCompile("\x1b\\[\\d+A\r\x1b\\[J").Split(out.String(), -1)
	return pictures[len(pictures)-2], pictures[len(pictures)-1]
}

func TestImages(t *testing.T) {
	for _, s := range [][2]int{{80, 24}, {120, 40}, {50, 12}} {
		name := fmt.Sprintf("%dx%d", s[0], s[1])
		t.Run(name, func(t *testing.T) {
			jobs, all := manyImages(30)
			picture, end := lastPicture(t, s[0], s[1], jobs, all)
			checkGolden(t, "images/"+name, picture+"-- at the end\n"+end)
			lines := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
			if len(lines) > s[1]-2 {
				t.Errorf("%d lines on a terminal of %d", len(lines), s[1])
			}
			for _, l := range lines {
				if len([]rune(l)) >= s[0] {
					t.Errorf("%d columns: %s", len([]rune(l)), l)
				}
			}
			for _, l := range slices.DeleteFunc(lines, func(l string) bool { return !strings.Contains(l, "redis:7") && !strings.Contains(l, "02:1.2.0") }) {
				for _, part := range []string{"27%", "123.4/456.7 MB", "123.4 MB/s", "1m07s"} {
					if !strings.Contains(l, part) {
						t.Errorf("%s is missing: %s", part, l)
					}
				}
			}
		})
	}
	t.Run("in order from the start", func(t *testing.T) {
		jobs, all := manyImages(12)
		picture, _ := lastPicture(t, 120, 24, jobs[:1], all[:1])
		at := 0
		for i, s := range jobs[0].Images {
			next := strings.Index(picture, s.Image[strings.LastIndexAny(s.Image, "-/")+1:])
			if i > 0 && next <= at {
				t.Errorf("image %d is not below the one before:\n%s", i, picture)
			}
			at = next
		}
	})
	t.Run("expected images", func(t *testing.T) {
		d, out := sized(60, 10, "docker.io/library/b:1", "docker.io/library/a:1", "A:B")
		if want := "b:1  waiting\na:1  waiting\nA:B  waiting\n"; out.String() != want {
			t.Errorf("%q, want %q", out, want)
		}
		d.Show(&puller.Job{ID: "1", Image: "docker.io/library/a:1"}, puller.Event{Type: "state", State: puller.StateQueued})
		d.Refuse("A:B", puller.Errorf(puller.ErrInvalidRequest, "no"))
		if want := "b:1  waiting\na:1  queued\nA:B  failed: invalid_request\n"; !strings.HasSuffix(out.String(), want) {
			t.Errorf("%q, want %q", out, want)
		}
	})
}

// A terminal that becomes narrower wraps the lines that are there.
func TestNarrowerTerminal(t *testing.T) {
	columns := 80
	var out strings.Builder
	d := render.NewSized(&out, func() (int, int, error) { return columns, 24, nil }, "registry.example.com/a/quite/long/name/of/an/image:1.2.3")
	d.Refuse("registry.example.com/a/quite/long/name/of/an/image:1.2.3", puller.Errorf(puller.ErrDenied, "no"))
	columns = 30
	d.Close()
	if !strings.Contains(out.String(), "\x1b[3A\r\x1b[J") {
		t.Errorf("%q", out.String())
	}
}

func TestTable(t *testing.T) {
	jobs, all := manyImages(5)
	ended := *jobs[0]
	ended.State, ended.Images = puller.StateFailed, []puller.ImageState{
		{Job: "01K00", Image: ended.Images[0].Image, State: puller.StateSucceeded, Source: puller.SourcePulled},
		{Job: "01K01", Image: ended.Images[1].Image, State: puller.StateFailed, Error: &puller.JobError{Kind: puller.ErrNotFound}},
		{Job: "01K02", Image: ended.Images[2].Image, State: puller.StateSucceeded, Source: puller.SourcePresent},
	}
	var out strings.Builder
	d := render.New(&out)
	for i, e := range all[:8] {
		d.Show(jobs[i], e)
	}
	d.Show(jobs[0], puller.Event{Type: "result", Result: &ended})
	d.Close()
	checkGolden(t, "lines/prewarm", out.String())
}
