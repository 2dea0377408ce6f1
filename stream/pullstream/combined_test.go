package pullstream_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/stream/pullstream"
)

// model is what a Sum is to be, of a few layers: the furthest that any pull has
// told of each, added up anew each time.
type model struct {
	t      *testing.T
	sum    pullstream.CombinedProgress
	now    time.Time
	layers map[string]pullstream.Layer // as the sum last gave them
	bytes  map[string]int64            // the most that was downloaded of each
	last   pullstream.Totals
}

func newModel(t *testing.T) *model {
	return &model{t: t, now: began, layers: map[string]pullstream.Layer{}, bytes: map[string]int64{}}
}

func (m *model) put(told pullstream.Layer) pullstream.Layer {
	m.t.Helper()
	m.now = m.now.Add(100 * time.Millisecond)
	before, known := m.layers[told.ID]
	got := m.sum.Put(told, m.now)
	switch {
	case got.ID != told.ID:
		m.t.Fatalf("%+v became %+v", told, got)
	case known && got.Phase < before.Phase:
		m.t.Fatalf("%+v went back to %+v, told of %+v", before, got, told)
	case known && before.Phase.Done() && got != before:
		m.t.Fatalf("%+v, which was done, became %+v, told of %+v", before, got, told)
	case !known && got.Phase != told.Phase:
		m.t.Fatalf("the first told was %+v, the sum has %+v", told, got)
	case got.Phase == pullstream.Existing && got.Total != 0:
		m.t.Fatalf("what was there has a size: %+v", got)
	case known && got.Total < before.Total && got.Phase != pullstream.Existing:
		m.t.Fatalf("%+v shrank to %+v", before, got)
	}
	m.layers[told.ID] = got
	switch {
	case got.Phase == pullstream.Existing:
	case got.Phase >= pullstream.Verifying:
		m.bytes[told.ID] = got.Total
	case got.Phase == pullstream.Downloading:
		m.bytes[told.ID] = got.Current
	}
	m.check()
	return got
}

// check compares the totals with those of the layers, and with those before.
func (m *model) check() {
	m.t.Helper()
	got := m.sum.Totals(m.now, false)
	want := pullstream.Totals{Rate: got.Rate, ETASeconds: got.ETASeconds, Extracted: got.Extracted}
	for id, l := range m.layers {
		want.Layers++
		want.Downloaded += m.bytes[id]
		want.Total += l.Total
		if l.Phase.Done() {
			want.LayersDone++
		}
		if l.Phase == pullstream.Existing {
			want.LayersExisting++
		}
	}
	for _, l := range m.layers {
		if l.Total == 0 && l.Phase < pullstream.Verifying {
			want.Total = 0
		}
	}
	if got != want {
		m.t.Fatalf("the totals are %+v, not %+v, of %+v", got, want, m.layers)
	}
	l := &m.last
	if got.Downloaded < l.Downloaded || got.Extracted < l.Extracted || got.Layers < l.Layers || got.LayersDone < l.LayersDone || got.LayersExisting < l.LayersExisting {
		m.t.Fatalf("%+v ran back to %+v", *l, got)
	}
	if got.Total > 0 && (got.Downloaded > got.Total || got.Extracted > got.Total) || got.Rate < 0 {
		m.t.Fatalf("more than there is: %+v", got)
	}
	if more := m.sum.Totals(m.now, true); more.Total != 0 || more.ETASeconds != nil || more.Downloaded != got.Downloaded {
		m.t.Fatalf("with more to come the totals are %+v", more)
	}
	m.last = got
}

// FuzzSum tells a sum of layers in any order and form.
func FuzzSum(f *testing.F) {
	f.Add([]byte{0, 1, 10, 20, 1, 1, 10, 30})
	f.Add([]byte{0, 5, 0, 0, 0, 1, 9, 99, 0, 6, 0, 0, 1, 6, 9, 9, 1, 1, 3, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newModel(t)
		for ; len(data) >= 4; data = data[4:] {
			told := pullstream.Layer{
				ID: string(rune('a' + data[0]%4)), Phase: pullstream.Phase(data[1] % 7),
				Current: int64(int8(data[2])) << (data[0] >> 3), Total: int64(int8(data[3])) << (data[0] >> 3),
			}
			m.put(told)
		}
	})
}

// Pulls that share layers, in steps that come in any order, tried again and
// begun anew: as engines tell of them.
func TestSumCountsEachLayerOnce(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := newModel(t)
		size := func(layer int) int64 { return int64(layer+1) * 1000 }
		there := map[string]bool{} // what the engine has
		downloaded := map[string]int64{}
		existing := map[string]bool{}
		type pull struct {
			layers []int
			p      *pullstream.Progress
			at     []int // the step of each layer
		}
		var pulls []*pull
		for range 2 + random.IntN(5) {
			x := &pull{p: new(pullstream.Progress)}
			for layer := range 8 {
				if random.IntN(2) == 0 {
					x.layers = append(x.layers, layer)
				}
			}
			x.at = make([]int, len(x.layers))
			pulls = append(pulls, x)
		}
		if random.IntN(2) == 0 {
			there["layer0"] = true
		}
		tell := func(x *pull, line string) {
			d := pullstream.NewDecoder(strings.NewReader(line+"\n"), 0)
			message, err := d.Next()
			if err != nil {
				t.Fatal(err)
			}
			if c := x.p.Fold(message, m.now); c.Layer != nil {
				m.put(*c.Layer)
			}
		}
		for left := true; left; {
			left = false
			for _, x := range pulls {
				if random.IntN(20) == 0 { // it is tried again
					x.p, x.at = new(pullstream.Progress), make([]int, len(x.layers))
				}
				for i, layer := range x.layers {
					id := fmt.Sprintf("layer%d", layer)
					if x.at[i] == 6 {
						continue
					}
					left = true
					if random.IntN(2) == 0 {
						continue
					}
					status, current, total := "", int64(0), int64(0)
					switch x.at[i] {
					case 0:
						status = "Pulling fs layer"
						if there[id] {
							status, x.at[i] = "Already exists", 5
							if downloaded[id] == 0 {
								existing[id] = true
							}
						}
					case 1, 2:
						status, current, total = "Downloading", int64(x.at[i])*size(layer)/3, size(layer)
						downloaded[id] = size(layer)
					case 3:
						status = "Download complete"
					case 4:
						status, current, total = "Extracting", size(layer)/2, size(layer)
					case 5:
						status = "Pull complete"
						there[id] = true
					}
					x.at[i]++
					tell(x, fmt.Sprintf(`{"status":%q,"id":%q,"progressDetail":{"current":%d,"total":%d}}`, status, id, current, total))
				}
			}
		}
		var want pullstream.Totals
		for id, n := range downloaded {
			want.Downloaded += n
			want.Total += n
			want.Extracted += n
			existing[id] = false
		}
		for _, is := range existing {
			if is {
				want.LayersExisting++
			}
		}
		want.Layers, want.LayersDone = len(m.layers), len(m.layers)
		if got := m.sum.Totals(m.now, false); got != want {
			t.Fatalf("with seed %d, in the end the totals are %+v, not %+v", seed, got, want)
		}
	}
}

// What a layer is done with stays what it is, though another pull, or a
// manifest, tells of it in other words later.
func TestSumKeepsDoneLayers(t *testing.T) {
	for _, c := range []struct {
		name string
		told []pullstream.Layer
		want pullstream.Totals
	}{
		{"whole before its size was told", []pullstream.Layer{{Phase: pullstream.Complete}, {Phase: pullstream.Downloading, Current: 300, Total: 1000}}, pullstream.Totals{}},
		{"told larger", []pullstream.Layer{{Phase: pullstream.Complete, Current: 1000, Total: 1000}, {Phase: pullstream.Downloading, Current: 300, Total: 2000}}, pullstream.Totals{Downloaded: 1000, Extracted: 1000, Total: 1000}},
		{"there, and then pulled", []pullstream.Layer{{Phase: pullstream.Existing}, {Phase: pullstream.Downloading, Current: 300, Total: 1000}}, pullstream.Totals{LayersExisting: 1}},
		{"pulled, and then there", []pullstream.Layer{{Phase: pullstream.Downloading, Current: 300, Total: 1000}, {Phase: pullstream.Existing}}, pullstream.Totals{Downloaded: 1000, Extracted: 1000, Total: 1000}},
		{"expected, and there", []pullstream.Layer{{ID: "expect", Total: 500}, {Phase: pullstream.Existing}}, pullstream.Totals{LayersExisting: 1}},
		{"there, and expected by another", []pullstream.Layer{{Phase: pullstream.Existing}, {ID: "expect", Total: 500}}, pullstream.Totals{LayersExisting: 1}},
		{"whole, and expected by another", []pullstream.Layer{{Phase: pullstream.Complete, Current: 10, Total: 10}, {ID: "expect", Total: 500}}, pullstream.Totals{Downloaded: 10, Extracted: 10, Total: 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s pullstream.CombinedProgress
			for _, l := range c.told {
				if l.ID == "expect" {
					s.Expect("a", l.Total)
					continue
				}
				l.ID = "a"
				s.Put(l, began)
			}
			c.want.Layers, c.want.LayersDone = 1, 1
			if got := s.Totals(began, false); got != c.want {
				t.Errorf("the totals are %+v, not %+v", got, c.want)
			}
		})
	}
}

func TestSumExpected(t *testing.T) {
	var s pullstream.CombinedProgress
	s.Expect("a", 1000)
	s.Expect("b", 500)
	s.Expect("a", 1000)
	s.Expect("c", -5) // a size that is none is unknown
	if got := s.Totals(began, false); got != (pullstream.Totals{Layers: 3}) {
		t.Errorf("the totals are %+v", got)
	}
	s.Put(pullstream.Layer{ID: "c", Phase: pullstream.Existing}, began)
	s.Put(pullstream.Layer{ID: "a", Phase: pullstream.Downloading, Current: 300}, began)
	if got := s.Totals(began, false); got != (pullstream.Totals{Layers: 3, LayersDone: 1, LayersExisting: 1, Downloaded: 300, Total: 1500}) {
		t.Errorf("the totals are %+v", got)
	}
}

// An engine that makes up layers takes neither all memory nor the sum with it.
func TestASumIsOfSoManyLayers(t *testing.T) {
	var s pullstream.CombinedProgress
	for i := range 100_100 {
		s.Put(pullstream.Layer{ID: fmt.Sprint(i), Phase: pullstream.Downloading, Current: 1 << 62, Total: 1 << 62}, began)
	}
	long := pullstream.Layer{ID: strings.Repeat("a", 200), Phase: pullstream.Complete, Total: 5}
	if got := s.Put(long, began); got != long {
		t.Errorf("it is passed on as %+v", got)
	}
	if got := s.Totals(began, false); got.Layers != 100_000 || got.Downloaded <= 0 || got.Total <= 0 {
		t.Errorf("the totals are %+v", got)
	}
}

func TestSumRateAndETA(t *testing.T) {
	var s pullstream.CombinedProgress
	now := began
	for i := range int64(5) {
		s.Put(pullstream.Layer{ID: "a", Phase: pullstream.Downloading, Current: i * 1000, Total: 10_000}, now)
		s.Put(pullstream.Layer{ID: "b", Phase: pullstream.Downloading, Current: i * 500, Total: 5000}, now)
		now = now.Add(time.Second)
	}
	got := s.Totals(now, false)
	if got.Rate != 1200 || got.ETASeconds == nil || *got.ETASeconds != 8 { // the last second told nothing new
		t.Errorf("the rate is %d, the end in %v", got.Rate, got.ETASeconds)
	}
}
