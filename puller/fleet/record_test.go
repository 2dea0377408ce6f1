package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

var sum = "sha256:" + strings.Repeat("a", 64)

func TestRecords(t *testing.T) {
	desired := fleet.Desired{Format: fleet.Format, Sets: []fleet.DesiredSet{{
		Set: "web", Generation: 3, Protect: true, Priority: puller.PriorityLow, Window: "22:00-06:00",
		Images: []fleet.Image{{Image: "registry.test/web:v1", Digest: sum, Manifests: map[string]string{"linux/amd64": sum}}},
	}}}
	if got, err := fleet.ParseDesired(fleet.Encode(desired)); err != nil || !cmp.Equal(got, desired) {
		t.Errorf("%v, %v", cmp.Diff(desired, got), err)
	}
	report := fleet.Report{Format: 1, Generation: 3, State: fleet.StateFailed, Digest: sum, Error: "no", Kind: puller.ErrNotFound, Images: []fleet.ImageState{{Image: "a", State: fleet.StateFailed}}}
	if got, err := fleet.ParseReport(fleet.Encode(report)); err != nil || !cmp.Equal(got, report) {
		t.Errorf("%v, %v", cmp.Diff(report, got), err)
	}
	identity := fleet.Identity{Format: 1, Session: "s", Machine: "m", Name: "n", Labels: map[string]string{"role": "ci"}, Zone: "a"}
	if got, err := fleet.ParseIdentity(fleet.Encode(identity)); err != nil || !cmp.Equal(got, identity) {
		t.Errorf("%v, %v", cmp.Diff(identity, got), err)
	}
	if got, err := fleet.ParseBeat(fleet.Encode(fleet.Beat{Session: "s", Ask: true})); err != nil || got != (fleet.Beat{Session: "s", Ask: true}) {
		t.Errorf("%v, %v", got, err)
	}
	// What a later Towline adds is left out, and what it changes is not read.
	if _, err := fleet.ParseReport([]byte(`{"format":1,"generation":1,"state":"proven","new":{}}`)); err != nil {
		t.Error(err)
	}
	if d, err := fleet.ParseDesired([]byte(`{"serial":7,"sets":[{"set":"web","generation":1,"images":[{"image":"a","digest":"` + sum + `","signed":true}],"new":1}]}`)); err != nil || len(d.Sets) != 1 {
		t.Errorf("%+v, %v", d, err)
	}
	var format fleet.ErrFormat
	if _, err := fleet.ParseDesired([]byte(`{"format":2,"sets":{"web":1}}`)); !errors.As(err, &format) || format.Format != 2 {
		t.Errorf("%v", err)
	}
}

func TestBadRecords(t *testing.T) {
	for name, value := range map[string]string{
		"empty":         "",
		"null_bytes":    "\x00\x00",
		"two":           `{"format":1}{"format":1}`,
		"list":          `[]`,
		"state":         `{"format":1,"state":"away"}`,
		"large":         `{"format":1,"state":"proven","error":"` + strings.Repeat("x", fleet.MaxDesired) + `"}`,
		"digest":        `{"format":1,"state":"proven","digest":"x"}`,
		"session":       `{"format":1,"session":"` + strings.Repeat("x", 300) + `","labels":{"A":"b"}}`,
		"no_images":     `{"format":1,"sets":[{"set":"web","generation":1}]}`,
		"no_generation": `{"format":1,"sets":[{"set":"web","images":[{"image":"a","digest":"` + sum + `"}]}]}`,
		"name":          `{"format":1,"sets":[{"set":"../web","generation":1,"images":[{"image":"a","digest":"` + sum + `"}]}]}`,
		"image":         `{"format":1,"sets":[{"set":"web","generation":1,"images":[{"image":"A","digest":"` + sum + `"}]}]}`,
		"pinned":        `{"format":1,"sets":[{"set":"web","generation":1,"images":[{"image":"a","digest":"sha512:00"}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := fleet.ParseReport([]byte(value)); err == nil {
				t.Errorf("a report: %+v", r)
			}
			if r, err := fleet.ParseBeat([]byte(value)); err == nil {
				t.Errorf("a beat: %+v", r)
			}
			if r, err := fleet.ParseDesired([]byte(value)); err == nil && len(r.Sets) > 0 {
				t.Errorf("a desired state: %+v", r)
			}
		})
	}
	r, err := fleet.ParseReport([]byte(`{"format":1,"state":"failed","kind":"nonsense","error":"` + strings.Repeat("x", 5000) + `"}`))
	if err != nil || r.Kind != "" || len(r.Error) > 1100 {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"format":1,"sets":[{"set":"web","generation":1,"images":[{"image":"a","digest":"` + sum + `"}]}]}`))
	f.Add([]byte(`{"format":1,"session":"a","labels":{"a":"b"}}`))
	f.Add([]byte(`{"format":1,"generation":1,"state":"failed","images":[{"image":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		// What is read can be written, and read again.
		if d, err := fleet.ParseDesired(data); err == nil {
			if again, err := fleet.ParseDesired(fleet.Encode(d)); err != nil || len(again.Sets) != len(d.Sets) {
				t.Errorf("%q: %v", data, err)
			}
		}
		if r, err := fleet.ParseReport(data); err == nil {
			if _, err := fleet.ParseReport(fleet.Encode(r)); err != nil && len(fleet.Encode(r)) <= fleet.MaxReport {
				t.Errorf("%q: %v", data, err)
			}
		}
		fleet.ParseIdentity(data)
		fleet.ParseBeat(data)
	})
}
