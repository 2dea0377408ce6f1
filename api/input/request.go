// Package input reads what requests say: bodies, query parameters and headers.
package input

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/jsontype"
)

// MaxBody is how many bytes the body of a request may have.
const MaxBody = 1 << 20

// BodyLimit is how long a body may take to arrive.
const BodyLimit = 30 * time.Second

// Invalid returns an ErrInvalidRequest.
func Invalid(format string, args ...any) error {
	return puller.Errorf(puller.ErrInvalidRequest, format, args...)
}

// Caller returns the name of a request's caller, "" if it is not known, and the caller's
// own rules. The guard adds a caller to every request.
func Caller(r *http.Request) (name string, rules puller.Rules) {
	c, _ := auth.CallerOf(r)
	return c.Name, c.Rules
}

// Body decodes the JSON object of a body into v. The error is ErrInvalidRequest and
// names the field.
func Body(w http.ResponseWriter, r *http.Request, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return Invalid("Content-Type: %q is not taken; send application/json", r.Header.Get("Content-Type"))
	}
	// A body that arrives slowly must not hold a goroutine.
	in := http.NewResponseController(w)
	in.SetReadDeadline(time.Now().Add(BodyLimit))
	body := http.MaxBytesReader(w, r.Body, MaxBody)
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			in.SetReadDeadline(time.Time{}) // not earlier: net/http reads the rest of a body
			return nil
		}
		var syntax *json.SyntaxError
		if err == nil || errors.As(err, &syntax) {
			return Invalid("body: something follows the JSON object; send one object only")
		}
	}
	return bodyFault(err)
}

func isTooLarge(err error) bool {
	var tooLarge *http.MaxBytesError
	return errors.As(err, &tooLarge)
}

func bodyFault(err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	var known *puller.Error
	switch {
	case errors.As(err, &known):
		return known
	case isTooLarge(err):
		return Invalid("body: larger than 1 MiB")
	case errors.Is(err, io.EOF):
		return Invalid("body: empty; send a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Invalid("body: cut off before the end of the JSON object")
	case errors.As(err, &syntax):
		return Invalid("body: not JSON at byte %d: %v", syntax.Offset, err)
	case errors.As(err, &typ) && typ.Field == "":
		return Invalid("body: a JSON %s; send a JSON object", typ.Value)
	case errors.As(err, &typ) && typ.Field == "timeout":
		return Invalid("timeout: a JSON %s is not what it takes; write a string such as \"90s\" or \"30m\"", typ.Value)
	case errors.As(err, &typ):
		return Invalid("%s", jsontype.Wrong(typ))
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return Invalid("%s: there is no such field", strings.Trim(field, `"`))
	}
	return Invalid("body: could not be read: %v", err)
}

// repeated are the query parameters that may occur more than once.
var repeated = []string{"profile", "var", "host", "label"}

// CheckQuery refuses unknown query parameters: one may be mistyped.
func CheckQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Invalid("query: %v", err)
	}
	for name, values := range query {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return Invalid("%s: this route takes no query parameters", name)
		case !slices.Contains(known, name):
			return Invalid("%s: there is no such query parameter here; there are %s", name, strings.Join(known, ", "))
		case len(values) > 1 && !slices.Contains(repeated, name):
			return Invalid("%s: given more than once", name)
		}
	}
	return nil
}

// IsTrue returns a boolean query parameter. A missing one is false.
func IsTrue(r *http.Request, name string) (bool, error) {
	switch v := r.URL.Query().Get(name); v {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, Invalid("%s: %q is neither true nor false", name, v)
	}
}

// Since returns the number of the last event that a reader has, nil for a new reader.
func Since(r *http.Request) (*uint64, error) {
	name, v := "since", r.URL.Query().Get("since")
	if v == "" {
		name, v = "Last-Event-ID", r.Header.Get("Last-Event-ID")
	}
	if v == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return nil, Invalid("%s: %q is not the number of an event", name, v)
	}
	return &n, nil
}

const mostEvery = time.Minute

// Every returns the shortest time between two layer events, 0 for the default.
func Every(r *http.Request) (time.Duration, error) {
	v := r.URL.Query().Get("every")
	if v == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > mostEvery {
		return 0, Invalid("every: %q is not a duration between 0s and %s", v, mostEvery)
	}
	return d, nil
}

// RefuseQuery refuses query parameters that belong into the body.
func RefuseQuery(r *http.Request, names []string) error {
	for _, name := range names {
		if r.URL.Query().Has(name) {
			return Invalid("%s: this query parameter is for Compose files; in JSON, write it into the body", name)
		}
	}
	return nil
}

// IsYAML reports whether a body is a Compose file.
func IsYAML(r *http.Request) bool {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (media == "application/yaml" || media == "application/x-yaml" || media == "text/yaml")
}

// The sizes of pages.
const (
	defaultPage = 100
	mostOfPage  = 1000
)

// PageLimit returns how many a page is to have at most.
func PageLimit(r *http.Request) (int, error) {
	v := r.URL.Query().Get("limit")
	if v == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > mostOfPage {
		return 0, Invalid("limit: %q is not a number from 1 to %d", puller.Clip(v), mostOfPage)
	}
	return n, nil
}

// Pairs returns a query parameter that is NAME=VALUE and may be repeated.
func Pairs(r *http.Request, parameter string) (map[string]string, error) {
	all := make(map[string]string)
	for _, v := range r.URL.Query()[parameter] {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, Invalid("%s: %q is not NAME=VALUE", parameter, puller.Clip(v))
		}
		if _, twice := all[name]; twice {
			return nil, Invalid("%s: %q is given twice", parameter, puller.Clip(name))
		}
		all[name] = value
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// Clip shortens text of a caller in an answer.
func Clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// Limit returns the query parameter limit, 0 if it is not given.
func Limit(r *http.Request) (int, error) {
	v := r.URL.Query().Get("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n == 0 {
		return 0, Invalid("limit: %q is not a number above 0", puller.Clip(v))
	}
	return n, nil
}
