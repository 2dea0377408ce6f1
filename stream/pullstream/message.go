package pullstream

import (
	"encoding/json"
	"strings"
)

// A Message is one line of an engine's pull stream. Every Message is decoded
// into a fresh value, so a field the line did not have is zero.
//
// The shape is the JSONMessage of the Docker Engine API ("Create an image").
type Message struct {
	// Status is the engine's word for what happens: "Downloading", "Pull
	// complete", "Digest: sha256:…". Words differ between engines.
	Status string `json:"status"`
	// ID is the short layer ID, or on a "Pulling from" line the tag.
	ID string `json:"id"`
	// Detail holds the counts of a layer's work; zero where the engine gave none.
	Detail Detail `json:"progressDetail"`
	// Error and ErrorDetail report a failure inside a stream whose status was
	// 200. Either may be alone; read them through Failure.
	Error       string       `json:"error"`
	ErrorDetail *ErrorDetail `json:"errorDetail"`
	// Aux is a value some engines add out of band, such as an image ID.
	Aux json.RawMessage `json:"aux"`
}

// Detail is how far one layer's work is.
type Detail struct {
	// Current and Total are in bytes, unless Units says otherwise. Total is 0
	// (or below) where the engine does not know it.
	Current int64 `json:"current"`
	Total   int64 `json:"total"`
	// Units is "" for bytes. The containerd image store sends "s" while it
	// extracts: Current is then in seconds and must not be added to bytes.
	Units string `json:"units"`
}

// ErrorDetail is the engine's own account of a failure.
type ErrorDetail struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Failure reports the engine's error message and whether the line carries an
// error at all. errorDetail is believed before the deprecated error.
func (m *Message) Failure() (message string, failed bool) {
	switch {
	case m.ErrorDetail != nil && m.ErrorDetail.Message != "":
		return m.ErrorDetail.Message, true
	case m.Error != "":
		return m.Error, true
	case m.ErrorDetail != nil:
		return "the engine reported an error without saying which", true
	}
	return "", false
}

// Pulled returns the reference that a line names by which Docker's engines end a
// pull, and whether this is such a line.
func (m *Message) Pulled() (ref string, ok bool) {
	if m.ID != "" {
		return "", false
	}
	for _, words := range []string{"Status: Downloaded newer image for ", "Status: Image is up to date for "} {
		if ref, ok := strings.CutPrefix(m.Status, words); ok {
			return strings.TrimSpace(ref), true
		}
	}
	return "", false
}

// Digest returns the digest that a "Digest: sha256:…" line names, or "".
// Engines send it before the tag is written, and Podman does not send it.
func (m *Message) Digest() string {
	if m.ID != "" {
		return ""
	}
	d, ok := strings.CutPrefix(m.Status, "Digest: ")
	if !ok {
		return ""
	}
	return strings.TrimSpace(d)
}
