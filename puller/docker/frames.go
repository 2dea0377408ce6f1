package docker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Streams of a container without a terminal come as frames: the stream's number
// in one byte, three of 0, and the size of what follows in four (Docker Engine
// API, "Attach to a container").
const (
	frameHead    = 8
	stdoutFrame  = 1
	stderrFrame  = 2
	failureFrame = 3 // the engine's words, of what went wrong with the stream
	// maxFailure bounds what is read of them, in bytes.
	maxFailure = 1 << 10
)

// splitFrames passes the frames of r on, in pieces of at most chunk bytes: no
// memory is taken for what a head only claims. It returns nil where r ends after
// a whole frame.
func splitFrames(r io.Reader, stdout, stderr io.Writer) error {
	piece := make([]byte, chunk)
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := int64(binary.BigEndian.Uint32(head[4:]))
		w := stdout
		switch {
		case head[1]|head[2]|head[3] != 0 || head[0] != stdoutFrame && head[0] != stderrFrame && head[0] != failureFrame:
			return fmt.Errorf("a frame begins with %x, which is no stream's", head[:4])
		case head[0] == failureFrame:
			said, err := io.ReadAll(io.LimitReader(r, min(size, maxFailure)))
			return errors.Join(fmt.Errorf("the engine says: %q", said), err)
		case head[0] == stderrFrame:
			w = stderr
		}
		n, err := io.CopyBuffer(w, io.LimitReader(r, size), piece)
		switch {
		case err != nil:
			return err
		case n < size:
			return io.ErrUnexpectedEOF
		}
	}
}
