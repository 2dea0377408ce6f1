package puller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/distribution/reference"
)

// PrewarmRequest asks for many images as one job. All but Images may be left
// out. The fields from Platform on are for the images that do not say
// themselves.
type PrewarmRequest struct {
	Images   Images `json:"images"`
	FailFast bool   `json:"fail_fast,omitempty"` // the first failure cancels the rest

	Platform string   `json:"platform,omitempty"`
	Policy   Policy   `json:"policy,omitempty"`
	Priority Priority `json:"priority,omitempty"`
	Timeout  Duration `json:"timeout,omitempty"`
	Retries  *int     `json:"retries,omitempty"`
	Strict   bool     `json:"strict,omitempty"`

	Accelerate Accelerate `json:"accelerate,omitempty"`

	// Skipped are what the list's author wants and no pull can bring.
	Skipped []Skipped `json:"-"`

	Credentials    Credentials `json:"-"`
	IdempotencyKey string      `json:"-"`
	Caller         string      `json:"-"`
	Rules          Rules       `json:"-"` // the caller's own, beside those of the daemon
}

// Skipped is a service of a Compose file that has no image to pull.
type Skipped struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
}

// Images is a list of what to pull. In JSON each is a PullRequest, or just its
// image as a string.
type Images []PullRequest

const (
	// maxImages is how many images one prewarm may ask for.
	maxImages = 1000
	// maxSkipped is how many services it may have beside them, maxService how long
	// the name of one may be, and maxSkippedBytes how long all names and reasons.
	maxSkipped      = 3000
	maxService      = 255
	maxSkippedBytes = 256 << 10
)

// UnmarshalJSON implements json.Unmarshaler. The error is ErrInvalidRequest and
// names each index at fault. As elsewhere, unknown fields are an error.
func (l *Images) UnmarshalJSON(data []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return Errorf(ErrInvalidRequest, "images: not a list; send a list of references or of pull requests")
	}
	if len(raw) > maxImages {
		return errManyImages(len(raw))
	}
	list := make(Images, len(raw))
	var faults imageFaults
	for i, entry := range raw {
		if err := decodeEntry(entry, &list[i]); err != nil {
			faults.add(i, err)
		}
	}
	if err := faults.err(); err != nil {
		return err
	}
	*l = list
	return nil
}

// decodeEntry reads one entry. The error names its field.
func decodeEntry(entry json.RawMessage, into *PullRequest) error {
	switch entry[0] {
	case '"':
		return json.Unmarshal(entry, &into.Image)
	case '{':
	default:
		return fmt.Errorf("%s is neither a reference nor a pull request", Clip(string(entry)))
	}
	d := json.NewDecoder(bytes.NewReader(entry))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("%s: a JSON %s is not what it takes", typ.Field, typ.Value)
	}
	if err == nil {
		return nil
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("%s: there is no such field", strings.Trim(field, `"`))
	}
	return err
}

// maxFaultText limits the text of the faults of several images, in bytes.
const maxFaultText = 900

// imageFaults collects what is wrong with the images of a request, so that one
// error tells all of it.
type imageFaults struct {
	first error
	more  string // all but the first
	rest  int    // how many more does not have
}

func (f *imageFaults) add(i int, err error) {
	err = fmt.Errorf("images[%d]: %w", i, err)
	switch text := "; " + err.Error(); {
	case f.first == nil:
		f.first = err
	case f.rest > 0 || len(f.more)+len(text) > maxFaultText:
		f.rest++
	default:
		f.more += text
	}
}

// err returns the faults as one error of the kind of the first, ErrInvalidRequest if
// it has none; nil for none.
func (f *imageFaults) err() error {
	if f.first == nil {
		return nil
	}
	kind := ErrInvalidRequest
	var known *Error
	if errors.As(f.first, &known) {
		kind = known.Kind
	}
	more := f.more
	if f.rest > 0 {
		more += fmt.Sprintf("; and %d more", f.rest)
	}
	return Errorf(kind, "%w%s", f.first, more)
}

func errManyImages(n int) error {
	return Errorf(ErrInvalidRequest, "images: %d of them; one prewarm takes at most %d, so ask for them in several", n, maxImages)
}

// checkSkipped bounds what a job says of services that it does nothing for.
func checkSkipped(all []Skipped) error {
	if len(all) > maxSkipped {
		return Errorf(ErrInvalidRequest, "services: %d have no image to pull; one prewarm takes at most %d of them, so leave some out", len(all), maxSkipped)
	}
	for _, s := range all {
		if len(s.Service) > maxService {
			return Errorf(ErrInvalidRequest, "services: the name %q is longer than %d bytes; shorten it", Clip(s.Service), maxService)
		}
	}
	if n := SkippedBytes(all); n > maxSkippedBytes {
		return Errorf(ErrInvalidRequest, "services: of those that have no image to pull, the names and reasons have %d bytes; at most %d are taken, so leave some out", n, maxSkippedBytes)
	}
	return nil
}

// WithDefaults checks the request and fills in what was left out, in the images too.
// One image that is forbidden forbids it all.
func (r PrewarmRequest) WithDefaults(o Defaults) (PrewarmRequest, error) {
	switch {
	case len(r.Images) == 0 && len(r.Skipped) == 0:
		return r, Errorf(ErrInvalidRequest, "images: missing; name at least one")
	case len(r.Images) > maxImages:
		return r, errManyImages(len(r.Images))
	}
	if err := checkSkipped(r.Skipped); err != nil {
		return r, err
	}
	o.OwnPlatform = sync.OnceValues(o.OwnPlatform) // the engine is asked once
	// What the request says for all is checked as part of a request that has
	// nothing else in it, so that the fault is not laid on the first image.
	all := PullRequest{
		Image: "image", Platform: r.Platform, Policy: r.Policy, Priority: r.Priority, Timeout: r.Timeout, Retries: r.Retries,
		Accelerate: r.Accelerate, IdempotencyKey: r.IdempotencyKey,
	}
	all, _, err := all.WithDefaults(o)
	if err != nil {
		return r, err
	}
	policy := r.Policy // "" leaves it to each image: an ID has another default
	r.Platform, r.Policy, r.Priority, r.Timeout, r.Retries = all.Platform, all.Policy, all.Priority, all.Timeout, all.Retries
	images := make(Images, len(r.Images))
	var faults imageFaults
	for i, one := range r.Images {
		if one.Platform == "" {
			one.Platform = r.Platform
		}
		if one.Policy == "" {
			one.Policy = policy
		}
		if one.Priority == "" {
			one.Priority = r.Priority
		}
		if one.Timeout == 0 {
			one.Timeout = r.Timeout
		}
		if one.Retries == nil {
			one.Retries = r.Retries
		}
		if one.Accelerate == "" {
			one.Accelerate = r.Accelerate
		}
		one.Strict = one.Strict || r.Strict
		one.Credentials, one.Caller, one.Rules = r.Credentials, r.Caller, r.Rules
		var named reference.Named
		if images[i], named, err = one.WithDefaults(o); err == nil {
			err = o.Check(JobPrewarm, named, images[i])
		}
		switch kind := KindOf(err); {
		case err == nil:
		case faults.first != nil && kind != KindOf(faults.first):
		case kind == ErrInvalidRequest, kind == ErrForbidden:
			faults.add(i, err)
		default: // not a fault of the request
			return r, fmt.Errorf("images[%d]: %w", i, err)
		}
	}
	if err := faults.err(); err != nil {
		return r, err
	}
	r.Images = images
	return r, r.Credentials.CheckServer(images)
}
