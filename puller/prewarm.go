package puller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/towline/towline/puller/jsontype"
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
	Lease      string     `json:"lease,omitempty"` // as in a PullRequest, of all images

	// Logins are credentials that each name their registry. Credentials are for the
	// images of others.
	Logins         []Credentials `json:"-"`
	Credentials    Credentials   `json:"-"`
	IdempotencyKey string        `json:"-"`
	TraceParent    string        `json:"-"` // as in a PullRequest

	listOrigin `json:"-"`
}

// Skipped is a service of a Compose file that has no image to pull.
type Skipped struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
}

// Images is a list of what to pull. In JSON each is a PullRequest, or just its
// image as a string.
type Images []PullRequest

// maxImages is how many images one prewarm may ask for.
const maxImages = 1000

// UnmarshalJSON implements json.Unmarshaler. The error is ErrInvalidRequest and
// names each index at fault. As elsewhere, unknown fields are an error.
func (l *Images) UnmarshalJSON(data []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return Errorf(ErrInvalidRequest, "images: not a list; send a list of references or of pull requests")
	}
	if err := CheckImages(len(raw)); err != nil {
		return err
	}
	list := make(Images, len(raw))
	var faults ImageFaults
	for i, entry := range raw {
		if err := decodeEntry(entry, &list[i]); err != nil {
			faults.Add(i, err)
		}
	}
	if err := faults.Err(); err != nil {
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
		return errors.New(jsontype.Wrong(typ))
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

// ImageFaults collects what is wrong with the images of a request, so that one
// error tells all of it.
type ImageFaults struct {
	first error
	more  string // all but the first
	rest  int    // how many more does not have
}

// Add adds what is wrong with the image at an index.
func (f *ImageFaults) Add(i int, err error) {
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

// Kind returns the kind of the first one, ErrInvalidRequest if it has none; "" for none.
func (f *ImageFaults) Kind() ErrorKind {
	var known *Error
	switch {
	case f.first == nil:
		return ""
	case errors.As(f.first, &known):
		return known.Kind
	}
	return ErrInvalidRequest
}

// Err returns the faults as one error of the kind of the first; nil for none.
func (f *ImageFaults) Err() error {
	if f.first == nil {
		return nil
	}
	more := f.more
	if f.rest > 0 {
		more += fmt.Sprintf("; and %d more", f.rest)
	}
	return Errorf(f.Kind(), "%w%s", f.first, more)
}

// CheckImages returns ErrInvalidRequest for more images than one prewarm may ask for.
func CheckImages(n int) error {
	if n <= maxImages {
		return nil
	}
	return Errorf(ErrInvalidRequest, "images: %d of them; a prewarm, a set or a lease has at most %d, so make several", n, maxImages)
}
