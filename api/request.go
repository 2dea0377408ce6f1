package api

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
)

// maxBody is how many bytes the body of a request may have.
const maxBody = 1 << 20

// bodyLimit is how long a body may take to arrive.
const bodyLimit = 30 * time.Second

func invalid(format string, args ...any) error {
	return puller.Errorf(puller.ErrInvalidRequest, format, args...)
}

// caller returns the name of a request's caller, "" if it is not known, and the caller's
// own rules. The guard adds a caller to every request.
func caller(r *http.Request) (name string, rules puller.Rules) {
	c, _ := auth.CallerOf(r)
	return c.Name, c.Rules
}

// decodeBody decodes the JSON object of a body into v. The error is ErrInvalidRequest and
// names the field.
func decodeBody(w http.ResponseWriter, r *http.Request, v any) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return invalid("Content-Type: %q is not taken; send application/json", r.Header.Get("Content-Type"))
	}
	// A body that arrives slowly must not hold a goroutine.
	in := http.NewResponseController(w)
	in.SetReadDeadline(time.Now().Add(bodyLimit))
	body := http.MaxBytesReader(w, r.Body, maxBody)
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
			return invalid("body: something follows the JSON object; send one object only")
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
		return invalid("body: larger than 1 MiB")
	case errors.Is(err, io.EOF):
		return invalid("body: empty; send a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("body: cut off before the end of the JSON object")
	case errors.As(err, &syntax):
		return invalid("body: not JSON at byte %d: %v", syntax.Offset, err)
	case errors.As(err, &typ) && typ.Field == "":
		return invalid("body: a JSON %s; send a JSON object", typ.Value)
	case errors.As(err, &typ) && typ.Field == "timeout":
		return invalid("timeout: a JSON %s is not what it takes; write a string such as \"90s\" or \"30m\"", typ.Value)
	case errors.As(err, &typ):
		return invalid("%s: a JSON %s is not what it takes", typ.Field, typ.Value)
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return invalid("%s: there is no such field", strings.Trim(field, `"`))
	}
	return invalid("body: could not be read: %v", err)
}

// repeated are the query parameters that may occur more than once.
var repeated = []string{"profile", "var", "host", "label"}

// checkQuery refuses unknown query parameters: one may be mistyped.
func checkQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("query: %v", err)
	}
	for name, values := range query {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return invalid("%s: this route takes no query parameters", name)
		case !slices.Contains(known, name):
			return invalid("%s: there is no such query parameter here; there are %s", name, strings.Join(known, ", "))
		case len(values) > 1 && !slices.Contains(repeated, name):
			return invalid("%s: given more than once", name)
		}
	}
	return nil
}

// isTrue returns a boolean query parameter. A missing one is false.
func isTrue(r *http.Request, name string) (bool, error) {
	switch v := r.URL.Query().Get(name); v {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, invalid("%s: %q is neither true nor false", name, v)
	}
}

// since returns the number of the last event that a reader has, nil for a new reader.
func since(r *http.Request) (*uint64, error) {
	name, v := "since", r.URL.Query().Get("since")
	if v == "" {
		name, v = "Last-Event-ID", r.Header.Get("Last-Event-ID")
	}
	if v == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return nil, invalid("%s: %q is not the number of an event", name, v)
	}
	return &n, nil
}

const mostEvery = time.Minute

// every returns the shortest time between two layer events, 0 for the default.
func every(r *http.Request) (time.Duration, error) {
	v := r.URL.Query().Get("every")
	if v == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d > mostEvery {
		return 0, invalid("every: %q is not a duration between 0s and %s", v, mostEvery)
	}
	return d, nil
}
