// Package transcripts holds what real engines answered to a pull, byte for
// byte, for tests. Its testdata/README.md says what was done in each.
package transcripts

import (
	"bufio"
	"bytes"
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed testdata
var files embed.FS

// A Recording is one engine's answer to POST /images/create.
type Recording struct {
	Name   string // engine/scenario, such as "engine-20.10/fresh"
	Status int
	Header http.Header
	Body   []byte
	// Exit is how the client saw the body end: 0 a clean end, 18 cut short,
	// 28 the client gave up waiting (curl's exit codes).
	Exit int
}

// All returns every recording, by name.
func All() []Recording {
	names, err := fs.Glob(files, "testdata/*/*.ndjson")
	if err != nil {
		panic(err)
	}
	all := make([]Recording, len(names))
	for i, name := range names {
		all[i] = Load(strings.TrimSuffix(strings.TrimPrefix(name, "testdata/"), ".ndjson"))
	}
	return all
}

// Load returns the recording of a name. It panics where there is none.
func Load(name string) Recording {
	r := Recording{Name: name, Status: http.StatusOK, Exit: 28, Body: read(name+".ndjson", true)}
	if head := read(name+".headers", false); head != nil {
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(append(head, "\r\n\r\n"...))), nil)
		if err != nil {
			panic("transcripts: " + name + ": " + err.Error())
		}
		answer.Body.Close()
		r.Status, r.Header = answer.StatusCode, answer.Header
	}
	if exit := read(name+".exit", false); exit != nil {
		n, err := strconv.Atoi(string(bytes.TrimSpace(exit)))
		if err != nil {
			panic("transcripts: " + name + ": " + err.Error())
		}
		r.Exit = n
	}
	return r
}

// read returns a file's content; only the client-gone recording lacks some.
func read(name string, must bool) []byte {
	content, err := files.ReadFile(path.Join("testdata", name))
	if err != nil && must {
		panic("transcripts: " + err.Error())
	}
	return content
}
