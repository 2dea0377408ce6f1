package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
)

// Format is the format of the records that this Towline writes. One of a later format is not
// read: fields that may be ignored are added without a new format.
const Format = 1

// BeatEvery is how often a session says that it lives. A host that was not heard for three
// times as long is away.
const BeatEvery = 5 * time.Second

// Limits of records, in bytes, and of what is in them. NATS takes 1 MiB by default.
const (
	MaxDesired  = 768 << 10
	MaxReport   = 32 << 10
	MaxBeat     = 8 << 10
	MaxReported = 20   // images in a report
	MaxSets     = 500  // in a desired record
	maxImages   = 5000 // in a desired record
	maxText     = 1000 // bytes of a reason
)

// Identity is what a host says of itself, under its ID in the bucket Reports. It changes
// when the host joins.
type Identity struct {
	Format   int               `json:"format"`
	Session  string            `json:"session"`  // "" after the host has left
	Machine  string            `json:"machine"`  // tells machines apart, without telling of them
	Name     string            `json:"name"`     // of the machine
	Version  string            `json:"version"`  // of Towline
	Platform string            `json:"platform"` // of the engine
	Labels   map[string]string `json:"labels,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Address  string            `json:"address,omitempty"` // of the peer endpoint
	// Fault is what the host can't do in the fleet, for people.
	Fault string `json:"fault,omitempty"`
}

// Beat is what a session says again and again while it lives. It is not kept.
type Beat struct {
	Session string `json:"session"`
	Name    string `json:"name,omitempty"` // of the machine, for another one with the same ID
	// Ask has each other session of the host answer with a beat.
	Ask bool `json:"ask,omitempty"`
}

// Report is how a set stands on a host, in the bucket Reports.
type Report struct {
	Format     int    `json:"format"`
	Generation uint64 `json:"generation"`
	State      State  `json:"state"`
	// Sum is, of StateProven, what SumOf gives of the images that were proven.
	Sum    string           `json:"sum,omitempty"`
	Digest string           `json:"digest,omitempty"` // of a set with one image: what is there
	Images []ImageState     `json:"images,omitempty"` // that are not proven, of a set with several
	Error  string           `json:"error,omitempty"`
	Kind   puller.ErrorKind `json:"kind,omitempty"`
}

// Desired is all that a host is to have.
type Desired struct {
	Format int `json:"format"`
	// Serial grows with each record of a host.
	Serial uint64       `json:"serial"`
	Sets   []DesiredSet `json:"sets"`
}

// DesiredSet is a set that a host is to have.
type DesiredSet struct {
	Set        string          `json:"set"`
	Generation uint64          `json:"generation"`
	Images     []Image         `json:"images"`
	Protect    bool            `json:"protect"`
	Priority   puller.Priority `json:"priority,omitempty"`
	Window     string          `json:"window,omitempty"`
	Timezone   string          `json:"timezone,omitempty"`
}

// SumOf identifies what images are pinned to.
func SumOf(images []Image) string {
	h := sha256.New()
	for _, i := range images {
		fmt.Fprintf(h, "%s %s %s\n", i.Image, i.Platform, i.Digest)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Question is what a host asks controllers, and Answer the reply: with whom it shares a set.
type Question struct {
	Set string `json:"set"`
}

// Answer is the reply to a Question. Without a group, Error says why.
type Answer struct {
	Group *Group `json:"group,omitempty"`
	Error string `json:"error,omitempty"`
}

// MaxAnswer bounds an answer, in bytes.
const MaxAnswer = 768 << 10

// ErrFormat is of a record that a later Towline has written.
type ErrFormat struct{ Format int }

// Error names the format.
func (e ErrFormat) Error() string {
	return fmt.Sprintf("the record has format %d, and this Towline reads up to %d: update it", e.Format, Format)
}

// decode reads a record of at most limit bytes. A value may come from anybody who has
// credentials: nothing of it is believed.
func decode(data []byte, limit int, into any) error {
	if len(data) > limit {
		return fmt.Errorf("%d bytes; at most %d are read", len(data), limit)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := unmarshal(data, &head); err != nil {
		return err
	}
	if head.Format > Format {
		return ErrFormat{head.Format}
	}
	return unmarshal(data, into)
}

func unmarshal(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("not JSON of its form: %s", puller.Clip(err.Error()))
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one JSON value")
	}
	return nil
}

// text returns a text as it may be logged and shown.
func text(s string) string { return puller.ClipTo(strings.ToValidUTF8(s, "?"), maxText) }

// ParseIdentity reads what a host says of itself.
func ParseIdentity(data []byte) (i Identity, err error) {
	if err := decode(data, MaxBeat, &i); err != nil {
		return Identity{}, err
	}
	for field, value := range map[string]string{"session": i.Session, "machine": i.Machine, "platform": i.Platform, "address": i.Address} {
		if len(value) > 255 {
			return Identity{}, fmt.Errorf("%s: %d bytes; at most 255 are read", field, len(value))
		}
	}
	i.Name, i.Version, i.Fault = puller.Clip(text(i.Name)), puller.Clip(text(i.Version)), text(i.Fault)
	if err := CheckZone(i.Zone); err != nil {
		return Identity{}, err
	}
	return i, CheckLabels("labels", i.Labels)
}

// ParseBeat reads a beat.
func ParseBeat(data []byte) (b Beat, err error) {
	if err := decode(data, MaxBeat, &b); err != nil {
		return Beat{}, err
	}
	if b.Session == "" || len(b.Session) > 255 {
		return Beat{}, fmt.Errorf("session: not 1 to 255 bytes")
	}
	b.Name = puller.Clip(text(b.Name))
	return b, nil
}

// ParseReport reads a report.
func ParseReport(data []byte) (r Report, err error) {
	if err := decode(data, MaxReport, &r); err != nil {
		return Report{}, err
	}
	switch r.State {
	case StateWaiting, StatePulling, StateProven, StateRefused, StateFailed:
	default:
		return Report{}, fmt.Errorf("state: %q is not known", puller.Clip(string(r.State)))
	}
	if len(r.Images) > MaxReported {
		return Report{}, fmt.Errorf("images: %d; at most %d are read", len(r.Images), MaxReported)
	}
	if r.Digest != "" && digest.Digest(r.Digest).Validate() != nil {
		return Report{}, fmt.Errorf("digest: %q is none", puller.Clip(r.Digest))
	}
	r.Error, r.Kind = text(r.Error), knownKind(r.Kind)
	for n := range r.Images {
		i := &r.Images[n]
		i.Image, i.Digest, i.Error, i.Kind = puller.ClipTo(text(i.Image), puller.MaxReference), puller.Clip(text(i.Digest)), text(i.Error), knownKind(i.Kind)
	}
	return r, nil
}

func knownKind(k puller.ErrorKind) puller.ErrorKind {
	for _, known := range puller.ErrorKinds() {
		if k == known {
			return k
		}
	}
	return ""
}

// ParseDesired reads what a host is to have.
func ParseDesired(data []byte) (d Desired, err error) {
	if err := decode(data, MaxDesired, &d); err != nil {
		return Desired{}, err
	}
	if len(d.Sets) > MaxSets {
		return Desired{}, fmt.Errorf("sets: %d; at most %d are read", len(d.Sets), MaxSets)
	}
	seen, images := make(map[string]bool), 0
	for n, s := range d.Sets {
		if err := CheckSetName(s.Set); err != nil {
			return Desired{}, fmt.Errorf("sets[%d]: %w", n, err)
		}
		if images += len(s.Images); seen[s.Set] || s.Generation == 0 || len(s.Images) == 0 || images > maxImages {
			return Desired{}, fmt.Errorf("sets[%d]: it is there twice, or has no generation or images, or there are more than %d images", n, maxImages)
		}
		seen[s.Set] = true
		if err := checkPinned(s.Images); err != nil {
			return Desired{}, fmt.Errorf("sets[%d]: %w", n, err)
		}
	}
	return d, nil
}

// checkPinned returns why images are not pinned as they must be.
func checkPinned(images []Image) error {
	for n, i := range images {
		if _, err := puller.ParseReference(i.Image); err != nil {
			return fmt.Errorf("images[%d]: %w", n, err)
		}
		if d := digest.Digest(i.Digest); d.Validate() != nil || d.Algorithm() != digest.SHA256 {
			return fmt.Errorf("images[%d]: digest: %q is none", n, puller.Clip(i.Digest))
		}
	}
	return nil
}

// Encode returns a record as it is kept. It panics for what has no JSON.
func Encode(record any) []byte {
	data, err := json.Marshal(record)
	if err != nil {
		panic("fleet: a record that has no JSON: " + err.Error())
	}
	return data
}
