package dockerapi

import (
	"encoding/json"
	"strconv"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// lineFormat is the format of an engine's own pull stream (Docker Engine API, "Create
// an image"), as dockerd writes it: a JSON object and "\r\n". Layers and notices
// have a place in it. pullstream.Decoder reads it.
var lineFormat = &stream.Format{Append: func(dst []byte, f *stream.Frame, _ string) []byte {
	var e struct {
		Layer   *pullstream.Layer `json:"layer"`
		Message string            `json:"message"`
	}
	switch {
	case f.Type != "layer" && f.Type != "notice" || f.Decode(&e) != nil:
		return dst
	case e.Layer != nil:
		return appendLayer(dst, *e.Layer)
	}
	return appendStatus(dst, "", e.Message)
}}

// phaseWords are dockerd's words for the phases, in their order. It has several
// for a layer that waits; each layer begins with this one.
var phaseWords = [...]string{
	"Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Already exists",
}

// appendLayer appends the line for a layer's state.
func appendLayer(dst []byte, l pullstream.Layer) []byte {
	dst = append(dst, `{"status":"`...)
	dst = append(dst, phaseWords[l.Phase]...)
	dst = append(dst, `","progressDetail":{`...)
	// Clients draw a bar where there is a count. What is not counted has none:
	// the containerd image store reports no progress while it extracts.
	if (l.Phase == pullstream.Downloading || l.Phase == pullstream.Extracting) && l.Current > 0 {
		dst = append(dst, `"current":`...)
		dst = strconv.AppendInt(dst, l.Current, 10)
		if l.Total > 0 {
			dst = append(dst, `,"total":`...)
			dst = strconv.AppendInt(dst, l.Total, 10)
		}
	}
	dst = append(dst, `},"id":`...)
	dst = appendString(dst, l.ID)
	return append(dst, "}\r\n"...)
}

// appendStatus appends a line that has a status and, if id is not "", an id:
// dockerd's first line has the tag there.
func appendStatus(dst []byte, id, status string) []byte {
	dst = append(dst, `{"status":`...)
	dst = appendString(dst, status)
	if id != "" {
		dst = append(dst, `,"id":`...)
		dst = appendString(dst, id)
	}
	return append(dst, "}\r\n"...)
}

// appendError appends the line of a pull that has failed. It has the message in
// both places, since some clients read only the deprecated one.
func appendError(dst []byte, message string) []byte {
	if message == "" { // clients take it for no error
		message = "the pull has failed"
	}
	dst = append(dst, `{"errorDetail":{"message":`...)
	dst = appendString(dst, message)
	dst = append(dst, `},"error":`...)
	dst = appendString(dst, message)
	return append(dst, "}\r\n"...)
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("dockerapi: a string that has no JSON: " + err.Error())
	}
	return append(dst, quoted...)
}
