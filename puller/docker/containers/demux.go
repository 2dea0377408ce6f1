package containers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The output of a container without a terminal arrives as frames. A frame has a header of
// 8 bytes: the stream's number in one byte, three zero bytes, and the size of the content
// in four (Docker Engine API, "Attach to a container").
const (
	frameHeader  = 8
	stdoutFrame  = 1
	stderrFrame  = 2
	failureFrame = 3 // the engine's error message about the stream
	// maxFailure limits that message, in bytes.
	maxFailure = 1 << 10
)

// demultiplex writes the content of r's frames to stdout and stderr, in pieces of at most
// chunk bytes. The SDK's stdcopy allocates what a header claims, up to 4 GiB. The result
// is nil where r ends after a whole frame.
func demultiplex(r io.Reader, stdout, stderr io.Writer) error {
	piece := make([]byte, chunk)
	for {
		var header [frameHeader]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := int64(binary.BigEndian.Uint32(header[4:]))
		w := stdout
		switch {
		case header[1]|header[2]|header[3] != 0 || header[0] != stdoutFrame && header[0] != stderrFrame && header[0] != failureFrame:
			return fmt.Errorf("a frame begins with %x, which names no stream", header[:4])
		case header[0] == failureFrame:
			message, err := io.ReadAll(io.LimitReader(r, min(size, maxFailure)))
			return errors.Join(fmt.Errorf("the engine says: %q", message), err)
		case header[0] == stderrFrame:
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
