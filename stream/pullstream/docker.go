package pullstream

import (
	"encoding/json"
	"strconv"
)

// The lines of an engine's own pull stream (Docker Engine API, "Create an
// image"), as dockerd writes them: a JSON object and "\r\n". What is written
// here is read again by a Decoder.

// dockerWords are dockerd's words for the phases, in their order. It has several
// for a layer that waits; each layer begins with this one.
var dockerWords = [...]string{
	"Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Already exists",
}

// AppendDockerLayer appends the line for a layer's state.
func AppendDockerLayer(dst []byte, l Layer) []byte {
	dst = append(dst, `{"status":"`...)
	dst = append(dst, dockerWords[l.Phase]...)
	dst = append(dst, `","progressDetail":{`...)
	// Clients draw a bar where there is a count. What is not counted has none:
	// the containerd image store extracts without telling how far it is.
	if (l.Phase == Downloading || l.Phase == Extracting) && l.Current > 0 {
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

// AppendDockerStatus appends a line that has a status and, if id is not "", an
// id: dockerd's first line has the tag there.
func AppendDockerStatus(dst []byte, id, status string) []byte {
	dst = append(dst, `{"status":`...)
	dst = appendString(dst, status)
	if id != "" {
		dst = append(dst, `,"id":`...)
		dst = appendString(dst, id)
	}
	return append(dst, "}\r\n"...)
}

// AppendDockerError appends the line that a pull has failed with. It has the
// message in both places, since some clients read only the deprecated one.
func AppendDockerError(dst []byte, message string) []byte {
	if message == "" { // which clients take for no error
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
		panic("pullstream: a string that has no JSON: " + err.Error())
	}
	return append(dst, quoted...)
}
