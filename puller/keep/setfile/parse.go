// Package setfile reads files of sets: lists, and Compose files; one by one, or all of a
// directory that have changed.
package setfile

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/jsontype"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/ownerfile"
)

// MaxBytes is how many bytes a file of a set may have.
const MaxBytes = 256 << 10

// File is what a file says of its set.
type File struct {
	Name     string   `json:"name"`     // "" for that of the file
	Profiles []string `json:"profiles"` // of a Compose file
	keep.SetRequest
}

// A Compose function reads a Compose file with some of its profiles.
type Compose func(ctx context.Context, content []byte, profiles []string) (puller.PrewarmRequest, error)

// NameOf returns the name of the set of a file that says none.
func NameOf(path string) string { return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)) }

// Read reads a file: a list {images, schedule, …}, or a Compose file with a section x-towline.
// Its set has the name that it says, or that of the file. What else it says is not checked yet.
func Read(ctx context.Context, path string, compose Compose) (File, error) {
	content, _, err := ownerfile.Read(path, MaxBytes)
	if err != nil {
		return File{}, err
	}
	f, err := parse(ctx, content, compose)
	if err != nil {
		return f, err
	}
	f.Name = cmp.Or(f.Name, NameOf(path))
	return f, keep.CheckSetName(f.Name)
}

// parse reads the content of a file. What it says is not checked yet.
func parse(ctx context.Context, content []byte, compose Compose) (r File, err error) {
	listed, err := ParseInto(ctx, content, &r, &r.Profiles, compose)
	if listed != nil {
		r.Images, r.Skipped, r.Platform = listed.Images, listed.Skipped, cmp.Or(r.Platform, listed.Platform)
	}
	return r, err
}

// ParseInto reads the content of a file into fields, a pointer to a struct, as the API reads
// JSON. Of a Compose file, the fields are those of its section x-towline, and listed is what
// compose returns with the profiles, which are one of the fields; else it is nil.
func ParseInto(ctx context.Context, content []byte, fields any, profiles *[]string, compose Compose) (listed *puller.PrewarmRequest, err error) {
	var top map[string]any
	if err := yaml.Unmarshal(content, &top); err != nil {
		return nil, fmt.Errorf("it is not YAML with a mapping: %s", puller.ClipTo(strings.ReplaceAll(err.Error(), "\n", " "), 400))
	}
	if _, isCompose := top["services"]; !isCompose {
		return nil, decode(top, fields)
	}
	if section, ok := top["x-towline"]; ok && section != nil {
		if err := decode(section, fields); err != nil {
			return nil, fmt.Errorf("x-towline: %w", err)
		}
		if m, ok := section.(map[string]any); ok && m["images"] != nil {
			return nil, errors.New("x-towline: images: those of a Compose file are the images of its services; leave it out")
		}
	}
	request, err := compose(ctx, content, *profiles)
	if err != nil {
		return nil, err
	}
	return &request, nil
}

// decode reads a value of YAML as the API reads JSON.
func decode(value any, into any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("it has a key that is no text: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err = d.Decode(into)
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &typ) && typ.Field == "":
		return fmt.Errorf("a %s; write a mapping with images, or a Compose file", typ.Value)
	case errors.As(err, &typ):
		return errors.New(strings.Replace(jsontype.Wrong(typ), "a JSON ", "a ", 1))
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("%s: there is no such field", strings.Trim(field, `"`))
	}
	return err
}
