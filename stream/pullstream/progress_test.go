package pullstream_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/stream/pullstream"
	"github.com/towline/towline/stream/pullstream/transcripts"
)

// lines decodes a stream that has nothing wrong with it.
func lines(t *testing.T, text ...string) []pullstream.Message {
	t.Helper()
	all, err := readAll(strings.NewReader(strings.Join(text, "\n")), 0)
	if err != io.EOF {
		t.Fatal(err)
	}
	return all
}

// work is a line about a layer, with its current and total if given.
func work(id, status string, counts ...int64) pullstream.Message {
	m := pullstream.Message{ID: id, Status: status}
	if len(counts) > 0 {
		m.Detail.Current = counts[0]
	}
	if len(counts) > 1 {
		m.Detail.Total = counts[1]
	}
	return m
}

func seconds(id string, n int64) pullstream.Message {
	return pullstream.Message{ID: id, Status: "Extracting", Detail: pullstream.Detail{Current: n, Units: "s"}}
}

func TestRecordingsGolden(t *testing.T) {
	for _, r := range transcripts.All() {
		t.Run(r.Name, func(t *testing.T) {
			checkGolden(t, r.Name, account(t, r))
		})
	}
}

// account tells what a recording comes to, a line for each thing that changed,
// led by the number of the message that changed it.
func account(t *testing.T, r transcripts.Recording) []byte {
	var out bytes.Buffer
	if r.Status != 200 {
		var refusal struct{ Message string }
		if err := json.Unmarshal(r.Body, &refusal); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "refused: %d %s\n", r.Status, refusal.Message)
		return out.Bytes()
	}
	d := pullstream.NewDecoder(open(r), 0)
	var p pullstream.Progress
	now := began
	for n := 1; ; n++ {
		m, err := d.Next()
		if err != nil {
			fmt.Fprintf(&out, "end: %v\n", err)
			break
		}
		now = now.Add(100 * time.Millisecond)
		change := p.Fold(m, now)
		if l := change.Layer; l != nil {
			fmt.Fprintf(&out, "%d %s %s %d/%d", n, l.ID, l.Phase, l.Current, l.Total)
			if !change.Advanced {
				out.WriteString(" (no advance)")
			}
			out.WriteByte('\n')
		}
		if change.Notice != "" {
			fmt.Fprintf(&out, "%d notice: %s\n", n, change.Notice)
		}
		if words, failed := m.Failure(); failed {
			fmt.Fprintf(&out, "%d failure: %s\n", n, words)
		}
		if digest := m.Digest(); digest != "" {
			fmt.Fprintf(&out, "%d digest: %s\n", n, digest)
		}
	}
	for _, l := range p.Layers() {
		fmt.Fprintf(&out, "layer %s %s %d/%d\n", l.ID, l.Phase, l.Current, l.Total)
	}
	totals, err := json.Marshal(p.Totals(now))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "totals %s\n", totals)
	return out.Bytes()
}

// A foreman folds messages and checks after each one what holds of any
// progress, whatever the engine says and in whatever order.
type foreman struct {
	t      *testing.T
	p      pullstream.Progress
	now    time.Time
	layers []pullstream.Layer
	totals pullstream.Totals
	size   int64            // the last total that was known
	heard  map[string]int64 // the count of bytes that was last heard of each layer
	fallen map[string]bool  // the count was at times below one before it
}

func (f *foreman) fold(m pullstream.Message) pullstream.Change {
	f.t.Helper()
	f.now = f.now.Add(100 * time.Millisecond)
	again := f.again(m)
	change := f.p.Fold(m, f.now)
	layers := f.p.Layers()
	changed := f.compare(layers)
	switch {
	case change.Layer == nil && (changed != "" || change.Advanced && !again):
		f.t.Errorf("%+v changed %q without a word, advanced: %t", m, changed, change.Advanced)
	case change.Layer != nil && (changed != change.Layer.ID || !slices.Contains(layers, *change.Layer)):
		f.t.Errorf("%+v is said to give %+v, but what changed is %q: %+v", m, *change.Layer, changed, layers)
	}
	f.layers = layers
	before := f.totals
	f.sum()
	if m.Detail.Units != "" && f.totals.Extracted != before.Extracted && m.Status == "Extracting" {
		f.t.Errorf("%+v was counted as bytes", m)
	}
	return change
}

// again notes a message's count of bytes, and reports whether it rises in a
// layer whose count has fallen before: work that is done again gets on, though
// the layer shows nothing of it until it has come as far as before.
func (f *foreman) again(m pullstream.Message) bool {
	if f.heard == nil {
		f.heard, f.fallen = map[string]int64{}, map[string]bool{}
	}
	if m.Detail.Units != "" || m.Status != "Downloading" && m.Status != "Extracting" {
		return false
	}
	var l pullstream.Layer
	if i := slices.IndexFunc(f.layers, func(l pullstream.Layer) bool { return l.ID == m.ID }); i >= 0 {
		l = f.layers[i]
	}
	if m.Status == "Downloading" && l.Phase > pullstream.Downloading || l.Phase > pullstream.Extracting {
		return false // that is over
	}
	last, current := f.heard[m.ID], max(0, m.Detail.Current)
	f.heard[m.ID] = current
	f.fallen[m.ID] = f.fallen[m.ID] || current < last
	// A count above the layer's size shows nothing either.
	size := max(l.Total, m.Detail.Total)
	return current > last && (f.fallen[m.ID] || size > 0 && current > size)
}

// compare returns the IDs of the layers that changed.
func (f *foreman) compare(layers []pullstream.Layer) string {
	f.t.Helper()
	var changed []string
	for i, l := range layers {
		var was pullstream.Layer
		if i < len(f.layers) {
			was = f.layers[i]
		}
		if l == was {
			continue
		}
		changed = append(changed, l.ID)
		if i >= len(f.layers) {
			continue
		}
		if l.ID != was.ID || l.Phase < was.Phase || l.Phase == was.Phase && l.Current < was.Current || l.Total < was.Total ||
			l.Total > 0 && l.Current > l.Total {
			f.t.Errorf("layer went from %+v to %+v", was, l)
		}
	}
	return strings.Join(changed, " ")
}

func (f *foreman) sum() {
	f.t.Helper()
	t, was := f.p.Totals(f.now), f.totals
	if t.Downloaded < was.Downloaded || t.Extracted < was.Extracted || t.Layers < was.Layers ||
		t.LayersDone < was.LayersDone || t.LayersExisting < was.LayersExisting {
		f.t.Errorf("totals ran backwards from %+v to %+v", was, t)
	}
	if t.LayersExisting > t.LayersDone || t.LayersDone > t.Layers || t.Layers != len(f.p.Layers()) || t.Rate < 0 {
		f.t.Errorf("totals do not fit each other: %+v", t)
	}
	if t.Total > 0 {
		if t.Total < f.size || t.Downloaded > t.Total || t.Extracted > t.Total {
			f.t.Errorf("%+v does not fit a total that was %d before", t, f.size)
		}
		f.size = t.Total
	}
	if t.ETASeconds != nil && (t.Total == 0 || t.Rate == 0 || *t.ETASeconds < 0) {
		f.t.Errorf("an ETA from nowhere: %+v", t)
	}
	f.totals = t
}

func (f *foreman) finish() {
	f.t.Helper()
	changed := f.p.Finish()
	layers := f.p.Layers()
	for _, l := range changed {
		if !slices.Contains(layers, l) {
			f.t.Errorf("finishing is said to give %+v, but it gave %+v", l, layers)
		}
	}
	f.compare(layers)
	f.layers = layers
	f.sum()
	if f.totals.LayersDone != f.totals.Layers {
		f.t.Errorf("finished, but %+v", f.totals)
	}
	if again := f.p.Finish(); len(again) > 0 {
		f.t.Errorf("finishing again changed %+v", again)
	}
}

// A Docker engine that has fetched everything fetches nothing after that. Podman names
// some layers only when they are there.
func TestProgressFetched(t *testing.T) {
	fetched := 0
	for _, r := range transcripts.All() {
		if r.Status != 200 {
			continue
		}
		all, _ := readAll(open(r), 0)
		var p pullstream.Progress
		for _, m := range all {
			before := p.Fetched()
			change := p.Fold(m, began)
			if before && change.Layer != nil && change.Layer.Phase < pullstream.Downloaded && !strings.HasPrefix(r.Name, "engine-podman/") {
				t.Errorf("%s: it had fetched everything, and then: %+v", r.Name, change.Layer)
			}
		}
		totals := p.Totals(began)
		if p.Fetched() {
			fetched++
		} else if totals.LayersDone == totals.Layers && totals.LayersExisting < totals.Layers {
			t.Errorf("%s: it has fetched everything, and does not say so: %+v", r.Name, totals)
		}
	}
	if fetched == 0 {
		t.Error("no engine has fetched anything")
	}
}

func TestProgressForwards(t *testing.T) {
	for _, r := range transcripts.All() {
		if r.Status != 200 {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			all, _ := readAll(open(r), 0)
			run := func(all []pullstream.Message) *foreman {
				f := &foreman{t: t, now: began}
				for _, m := range all {
					f.fold(m)
				}
				return f
			}
			once := run(all)
			once.finish()

			f := &foreman{t: t, now: began}
			for _, m := range all {
				f.fold(m)
				if again := f.fold(m); again.Layer != nil || again.Notice != "" || again.Advanced {
					t.Errorf("%+v said twice changed %+v", m, again)
				}
			}
			f.finish()
			if !reflect.DeepEqual(f.layers, once.layers) {
				t.Errorf("lines said twice give %+v, said once %+v", f.layers, once.layers)
			}
			for seed := range uint64(10) {
				mixed := slices.Clone(all)
				random := rand.New(rand.NewPCG(seed, 1))
				random.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
				run(mixed).finish()
			}
		})
	}
}

func TestProgressForwardsHostile(t *testing.T) {
	statuses := []string{
		"Pulling fs layer", "Waiting", "Downloading", "Downloading", "Verifying Checksum", "Download complete", "Extracting",
		"Extracting", "Pull complete", "Already exists", "Retrying in 2 seconds", "Retrying in 1 second", "Something new",
	}
	counts := []int64{-1, 0, 0, 1, 10, 50, 100, 1000}
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 2))
		f := &foreman{t: t, now: began}
		var said []pullstream.Message
		for range 30 {
			m := work(fmt.Sprint("layer", random.IntN(3)), statuses[random.IntN(len(statuses))], counts[random.IntN(len(counts))], counts[random.IntN(len(counts))])
			if random.IntN(6) == 0 {
				m.Detail.Units = "s"
			}
			said = append(said, m)
			f.fold(m)
		}
		f.finish()
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, said)
		}
	}
}

func TestProgressTagIsNoLayer(t *testing.T) {
	f := &foreman{t: t, now: began}
	for _, m := range lines(t,
		`{"status":"Pulling from library/alpine","id":"a1b2c3d4e5f6"}`,
		`{"status":"Digest: sha256:abc"}`,
		`{"status":"Status: Image is up to date for alpine:a1b2c3d4e5f6"}`,
		`{"errorDetail":{"message":"toomanyrequests"},"error":"toomanyrequests"}`,
		`{"aux":{"ID":"sha256:abc"}}`,
		`{"message":"no such image"}`,
	) {
		if change := f.fold(m); change != (pullstream.Change{}) {
			t.Errorf("%+v gave %+v", m, change)
		}
	}
	if !reflect.DeepEqual(f.totals, pullstream.Totals{}) {
		t.Errorf("got %+v", f.totals)
	}
}

func TestProgressRetryCountdown(t *testing.T) {
	f := &foreman{t: t, now: began}
	steps := []struct {
		m        pullstream.Message
		notice   string
		current  int64 // of the new state; -1: there is none
		advanced bool
	}{
		{work("a", "Pulling fs layer"), "", 0, true},
		{work("a", "Downloading", 500, 1000), "", 500, true},
		{work("a", "Retrying in 3 seconds"), "the engine tries layer a again in 3 seconds", -1, false},
		{work("a", "Retrying in 2 seconds"), "", -1, false},
		{work("b", "Retrying in 2 seconds"), "the engine tries layer b again in 2 seconds", 0, true},
		{work("a", "Retrying in 1 second"), "", -1, false},
		{work("b", "Retrying in 1 second"), "", -1, false},
		{work("a", "Downloading", 100, 1000), "", -1, false},
		{work("a", "Retrying in 5 seconds"), "the engine tries layer a again in 5 seconds", -1, false},
		{work("a", "Retrying in 4 seconds"), "", -1, false},
		{work("a", "Downloading", 600, 1000), "", 600, true},
	}
	for _, step := range steps {
		got := f.fold(step.m)
		current := int64(-1)
		if got.Layer != nil {
			current = got.Layer.Current
		}
		if got.Notice != step.notice || current != step.current || got.Advanced != step.advanced {
			t.Errorf("%+v gave notice %q, current %d, advanced %t", step.m, got.Notice, current, got.Advanced)
		}
	}
}

func TestAWarningGivesOneNotice(t *testing.T) {
	const warning = "[DEPRECATION NOTICE] schema 1 is going away"
	f := &foreman{t: t, now: began}
	var notices []string
	for _, m := range []pullstream.Message{
		{Status: warning}, {Status: warning}, work("a", "Pulling fs layer"), {Status: warning}, {Status: "another"},
		{Status: "Trying to pull example.org/a..."}, {ID: "a", Status: "Layer of a kind unknown"},
	} {
		change := f.fold(m)
		if change.Notice != "" {
			notices = append(notices, change.Notice)
		}
		if change.Advanced && m.Status != "Pulling fs layer" {
			t.Errorf("%+v advanced", m)
		}
	}
	if want := []string{warning, "another"}; !slices.Equal(notices, want) {
		t.Errorf("got %q, want %q", notices, want)
	}
}

func TestAdvanceNotByTalk(t *testing.T) {
	tests := []struct {
		name  string
		first pullstream.Message
		then  []pullstream.Message
		want  bool
	}{
		{"a new layer", work("a", "Waiting"), []pullstream.Message{work("b", "Waiting")}, true},
		{"a new phase", work("a", "Downloading", 5, 9), []pullstream.Message{work("a", "Download complete")}, true},
		{"more bytes", work("a", "Downloading", 5, 9), []pullstream.Message{work("a", "Downloading", 6, 9)}, true},
		{"more bytes extracted", work("a", "Extracting", 5, 9), []pullstream.Message{work("a", "Extracting", 6, 9)}, true},
		{"the same line", work("a", "Downloading", 5, 9), []pullstream.Message{work("a", "Downloading", 5, 9), work("a", "Downloading", 5, 9)}, false},
		{"fewer bytes", work("a", "Downloading", 5, 9), []pullstream.Message{work("a", "Downloading", 4, 9)}, false},
		{"a size told late", work("a", "Downloading", 5), []pullstream.Message{work("a", "Downloading", 5, 9)}, false},
		{"seconds", seconds("a", 1), []pullstream.Message{seconds("a", 1), seconds("a", 2), seconds("a", 600)}, false},
		{"an earlier phase", work("a", "Extracting", 5, 9), []pullstream.Message{work("a", "Waiting"), work("a", "Downloading", 9, 9)}, false},
		{"a layer that is done", work("a", "Pull complete"), []pullstream.Message{work("a", "Pull complete"), work("a", "Downloading", 1, 9), seconds("a", 3)}, false},
		{"words", work("a", "Waiting"), []pullstream.Message{{Status: "Digest: sha256:abc"}, {Status: "a warning"}, {ID: "a", Status: "Thinking"}}, false},
	}
	for _, test := range tests {
		f := &foreman{t: t, now: began}
		if !f.fold(test.first).Advanced {
			t.Errorf("%s: the first line did not advance", test.name)
		}
		for _, m := range test.then {
			if got := f.fold(m).Advanced; got != test.want {
				t.Errorf("%s: %+v advanced: %t", test.name, m, got)
			}
		}
	}
}

func TestTotalsTransferred(t *testing.T) {
	tests := []struct {
		name string
		said []pullstream.Message
		want pullstream.Totals
	}{
		{
			"a layer that exists counts no bytes",
			[]pullstream.Message{work("a", "Already exists", 70, 70), work("b", "Downloading", 30, 100), work("a", "Extracting", 70, 70)},
			pullstream.Totals{Downloaded: 30, Total: 100, Layers: 2, LayersDone: 1, LayersExisting: 1},
		},
		{
			"a layer downloaded before its size was told counts none, and hides no total",
			[]pullstream.Message{work("a", "Download complete"), work("b", "Downloading", 30, 100)},
			pullstream.Totals{Downloaded: 30, Total: 100, Layers: 2},
		},
		{
			"a layer done before its size was told counts none",
			[]pullstream.Message{work("a", "Pull complete"), work("b", "Downloading", 30, 100), work("a", "Extracting", 9, 50)},
			pullstream.Totals{Downloaded: 30, Total: 100, Layers: 2, LayersDone: 1},
		},
		{
			"a size told while extracting counts",
			[]pullstream.Message{work("a", "Download complete"), work("a", "Extracting", 20, 50)},
			pullstream.Totals{Downloaded: 50, Extracted: 20, Total: 50, Layers: 1},
		},
		{
			"no total while a size is unknown",
			[]pullstream.Message{work("a", "Downloading", 30, 100), work("b", "Pulling fs layer")},
			pullstream.Totals{Downloaded: 30, Layers: 2},
		},
		{
			"bytes of an unknown size stay counted",
			[]pullstream.Message{work("a", "Downloading", 30, -1), work("a", "Download complete"), seconds("a", 90)},
			pullstream.Totals{Downloaded: 30, Total: 30, Layers: 1},
		},
		{
			"a download is not more than its size",
			[]pullstream.Message{work("a", "Downloading", 130, 100)},
			pullstream.Totals{Downloaded: 100, Total: 100, Layers: 1},
		},
		{
			"a size is not below what had come before it was told",
			[]pullstream.Message{work("a", "Downloading", 130), work("a", "Downloading", 130, 100)},
			pullstream.Totals{Downloaded: 130, Total: 130, Layers: 1},
		},
		{
			"a layer that was worked on did not exist before",
			[]pullstream.Message{work("a", "Downloading", 30, 100), work("a", "Already exists")},
			pullstream.Totals{Downloaded: 100, Extracted: 100, Total: 100, Layers: 1, LayersDone: 1},
		},
		{
			"seconds are no bytes",
			[]pullstream.Message{work("a", "Downloading", 30, 100), seconds("a", 7), seconds("a", 8)},
			pullstream.Totals{Downloaded: 100, Total: 100, Layers: 1},
		},
		{
			"a complete layer is extracted to its size",
			[]pullstream.Message{work("a", "Downloading", 30, 100), seconds("a", 7), work("a", "Pull complete")},
			pullstream.Totals{Downloaded: 100, Extracted: 100, Total: 100, Layers: 1, LayersDone: 1},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := &foreman{t: t, now: began}
			for _, m := range test.said {
				f.fold(m)
			}
			if got := f.p.Totals(began); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestFinishOpenLayers(t *testing.T) {
	f := &foreman{t: t, now: began}
	for _, m := range []pullstream.Message{
		work("a", "Already exists"), work("b", "Pull complete"), work("c", "Downloading", 30, 100),
		work("d", "Pulling fs layer"), work("e", "Downloading", 40), seconds("f", 3),
	} {
		f.fold(m)
	}
	want := []pullstream.Layer{
		{ID: "c", Phase: pullstream.Complete, Current: 100, Total: 100}, {ID: "d", Phase: pullstream.Complete},
		{ID: "e", Phase: pullstream.Complete, Current: 40, Total: 40}, {ID: "f", Phase: pullstream.Complete},
	}
	if got := f.p.Finish(); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	totals := pullstream.Totals{Downloaded: 140, Extracted: 140, Total: 140, Layers: 6, LayersDone: 6, LayersExisting: 1}
	if got := f.p.Totals(f.now); !reflect.DeepEqual(got, totals) {
		t.Errorf("got %+v, want %+v", got, totals)
	}
	var none pullstream.Progress
	if got := none.Finish(); len(got) > 0 {
		t.Errorf("finishing nothing gave %+v", got)
	}
}

func TestRateSteady(t *testing.T) {
	const size, step = 60_000_000, 100_000 // 1 MB/s in lines of 100 ms
	var p pullstream.Progress
	now := began
	for bytes := int64(0); bytes <= 20_000_000; bytes += step {
		p.Fold(work("a", "Downloading", bytes, size), now)
		got := p.Totals(now)
		if elapsed := now.Sub(began); elapsed < 500*time.Millisecond {
			if got.Rate != 0 || got.ETASeconds != nil {
				t.Errorf("after %v: %+v", elapsed, got)
			}
		} else if got.Rate < 900_000 || got.Rate > 1_100_000 {
			t.Errorf("after %v the rate is %d", elapsed, got.Rate)
		} else if left := (size - bytes) / 1_000_000; got.ETASeconds == nil || *got.ETASeconds < left*9/10 || *got.ETASeconds > left*11/10+1 {
			t.Errorf("after %v with %d s left: %+v", elapsed, left, got)
		}
		now = now.Add(100 * time.Millisecond)
	}

	last := p.Totals(now).Rate
	for silent := 10 * time.Second; silent <= 2*time.Minute; silent += 10 * time.Second {
		got := p.Totals(now.Add(silent))
		if got.Rate >= last || got.ETASeconds == nil {
			t.Errorf("after %v of silence: %+v, before that %d", silent, got, last)
		}
		last = got.Rate
	}
	if last > 50_000 {
		t.Errorf("after two minutes of silence the rate is %d", last)
	}
}

func TestRateForgets(t *testing.T) {
	var p pullstream.Progress
	now := began
	var bytes int64
	for i := range 400 {
		bytes += 1_000_000 // 10 MB/s
		if i >= 200 {
			bytes -= 900_000 // 1 MB/s
		}
		now = now.Add(100 * time.Millisecond)
		p.Fold(work("a", "Downloading", bytes, 1<<40), now)
	}
	if got := p.Totals(now).Rate; got < 900_000 || got > 1_100_000 {
		t.Errorf("20 s after it fell to 1 MB/s the rate is %d", got)
	}
}

func TestETAUnknownTotal(t *testing.T) {
	var p pullstream.Progress
	p.Fold(work("b", "Pulling fs layer"), began)
	for i := range int64(20) {
		p.Fold(work("a", "Downloading", i*100_000, 10_000_000), began.Add(time.Duration(i)*100*time.Millisecond))
	}
	now := began.Add(2 * time.Second)
	if got := p.Totals(now); got.Rate == 0 || got.ETASeconds != nil || got.Total != 0 {
		t.Errorf("with a size unknown: %+v", got)
	}
	p.Fold(work("b", "Downloading", 0, 10_000_000), now)
	if got := p.Totals(now); got.Rate == 0 || got.ETASeconds == nil || got.Total != 20_000_000 {
		t.Errorf("with every size known: %+v", got)
	}
	p.Fold(work("a", "Download complete"), now)
	p.Fold(work("b", "Download complete"), now)
	if got := p.Totals(now.Add(time.Second)); got.Rate != 0 || got.ETASeconds != nil {
		t.Errorf("with nothing left to download: %+v", got)
	}
}

func TestLayersOrder(t *testing.T) {
	var p pullstream.Progress
	var want []string
	for _, id := range []string{"c", "a", "b"} {
		p.Fold(work(id, "Pulling fs layer"), began)
		want = append(want, id)
	}
	p.Fold(work("b", "Pull complete"), began)
	p.Fold(work("a", "Downloading", 1, 2), began)
	for i, l := range p.Layers() {
		if l.ID != want[i] {
			t.Errorf("layer %d is %s, want %s", i, l.ID, want[i])
		}
	}
}

func TestLayersJSON(t *testing.T) {
	eta := int64(0)
	for want, value := range map[string]any{
		`{"id":"a","phase":"waiting"}`:                                                  pullstream.Layer{ID: "a"},
		`{"id":"a","phase":"extracting","current":1,"total":2}`:                         pullstream.Layer{ID: "a", Phase: pullstream.Extracting, Current: 1, Total: 2},
		`{"downloaded":0,"extracted":0,"layers":0,"layers_done":0,"layers_existing":0}`: pullstream.Totals{},
		`{"downloaded":1,"extracted":2,"total":3,"layers":4,"layers_done":5,"layers_existing":6,"rate":7,"eta_seconds":0}`: pullstream.Totals{
			Downloaded: 1, Extracted: 2, Total: 3, Layers: 4, LayersDone: 5, LayersExisting: 6, Rate: 7, ETASeconds: &eta,
		},
	} {
		if got, err := json.Marshal(value); err != nil || string(got) != want {
			t.Errorf("got %s, %v; want %s", got, err, want)
		}
	}
	for phase := pullstream.Waiting; phase <= pullstream.Existing; phase++ {
		text, err := phase.MarshalText()
		back := pullstream.Complete - phase // another one, but in the middle
		if err2 := back.UnmarshalText(text); err != nil || err2 != nil || back != phase {
			t.Errorf("%v went out as %s, %v and came back as %v, %v", phase, text, err, back, err2)
		}
		if done := phase == pullstream.Complete || phase == pullstream.Existing; phase.Done() != done {
			t.Errorf("%v is done: %t", phase, phase.Done())
		}
	}
	unknown := pullstream.Complete
	if err := unknown.UnmarshalText([]byte("squashing")); err != nil || unknown != pullstream.Waiting {
		t.Errorf("an unknown phase came in as %v, %v", unknown, err)
	}
}
