package collect_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/keep/collect"
	"github.com/towline/towline/puller/store"
)

// disk is records that a process can be cut off from, as SIGKILL does.
type disk struct {
	store.Records
	mu     sync.Mutex
	killed bool
	after  string // the kind of the record with which it is killed
}

func (d *disk) kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killed = true
}

func (d *disk) Save(kind string, values map[string][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killed {
		return nil
	}
	d.killed = kind == d.after
	return d.Records.Save(kind, values)
}

func (d *disk) Delete(kind string, keys []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killed {
		return nil
	}
	return d.Records.Delete(kind, keys)
}

// Whenever a daemon is killed, each image that has gone is told once.
func TestKilled(t *testing.T) {
	both(t, func(t *testing.T, use func(*enginetest.Engine)) {
		for name, c := range map[string]struct {
			removing func(h *host, d *disk, name string) // called before the engine removes a name
			after    string
			later    func(h *host) // before the next start
			want     []string
		}{
			"before the removal": {removing: func(h *host, d *disk, name string) {
				d.kill()
				h.container(name, false) // so that it is not removed
			}},
			"before the record":   {removing: func(_ *host, d *disk, _ string) { d.kill() }, want: []string{image(0)}},
			"after the record":    {after: "image-event", want: []string{image(0)}},
			"after the intent":    {after: "image-removal", want: []string{image(0)}},
			"collection is off":   {removing: func(_ *host, d *disk, _ string) { d.kill() }, later: func(h *host) { h.opts.Collect = collect.Off }, want: []string{image(0)}},
			"engine is away":      {removing: func(_ *host, d *disk, _ string) { d.kill() }, later: func(h *host) { h.scripted.Kill() }, want: []string{image(0)}},
			"somebody removes it": {removing: func(h *host, _ *disk, name string) { h.scripted.Remove(name) }},
			"pulled again": { // nobody can know that it was away
				removing: func(_ *host, d *disk, _ string) { d.kill() },
				later:    func(h *host) { h.scripted.Tag(image(0), newImage(image(0), 1)) },
			},
		} {
			t.Run(name, func(t *testing.T) {
				withHost(t, use, asked, func(h *host) {
					d := &disk{Records: h.records, after: c.after}
					h.stop()
					h.records = d
					h.start()
					for n := range 6 {
						h.pull(image(n), n+1)
					}
					<-time.After(2 * time.Hour)
					tries := 0
					h.scripted.OnRemoveImage(func(name string) {
						if tries++; tries == 1 && c.removing != nil {
							kept, err := d.Load("image-removal")
							if err != nil || len(kept) != 1 {
								t.Errorf("when the engine is asked, %q is on disk: %v", kept, err)
							}
							c.removing(h, d, name)
						}
					})
					h.opts.MaxPerCycle = 1
					h.collect(false)
					h.stop()
					d.killed, d.after = false, ""
					if c.later != nil {
						c.later(h)
					}
					for range 3 {
						h.start()
						h.scripted.Revive()
						<-time.After(time.Minute)
						synctest.Wait()
						h.stop()
					}
					var got []string
					for _, one := range h.told() {
						got = append(got, one.Names[0])
					}
					if diff := cmp.Diff(c.want, got); diff != "" {
						t.Error(diff)
					}
					if kept, err := d.Load("image-removal"); err != nil || len(kept) > 0 {
						t.Errorf("still to be looked for: %q, %v", kept, err)
					}
				})
			})
		}
	})
}

// An answer that is lost is found out by the next look.
func TestAnswerLost(t *testing.T) {
	withHost(t, graph, asked, func(h *host) {
		for n := range 6 {
			h.pull(image(n), n+1)
		}
		<-time.After(2 * time.Hour)
		h.scripted.OnRemoveImage(func(string) { h.scripted.Kill() })
		if done, err := h.collector.Collect(h.Context(), false); err == nil {
			t.Errorf("it is %+v", done)
		}
		h.scripted.OnRemoveImage(nil)
		h.scripted.Revive()
		<-time.After(time.Minute)
		h.collect(false)
		if told := h.told(); len(told) == 0 || !slices.Contains(told[0].Names, image(0)) || h.scripted.Has(image(0)) {
			t.Errorf("it is told of %+v", told)
		}
		h.collect(false)
		count := 0
		for _, one := range h.told() {
			if one.Names[0] == image(0) {
				count++
			}
		}
		if count != 1 {
			t.Errorf("it is told %d times", count)
		}
	})
}
