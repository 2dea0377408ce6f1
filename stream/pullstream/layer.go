package pullstream

import "strings"

// A Phase is where one layer is. Phases are in the order a layer walks them;
// it may skip some (the containerd image store never verifies).
type Phase int

// The phases of a layer.
const (
	Waiting Phase = iota
	Downloading
	Verifying
	Downloaded
	Extracting
	Complete // downloaded and extracted
	Existing // was there before the pull
)

var phaseNames = [...]string{"waiting", "downloading", "verifying", "downloaded", "extracting", "complete", "existing"}

// String returns the phase's name on the wire.
func (p Phase) String() string { return phaseNames[p] }

// MarshalText implements encoding.TextMarshaler.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. A name it does not know,
// as a newer daemon might send, counts as Waiting.
func (p *Phase) UnmarshalText(text []byte) error {
	*p = Waiting
	for i, name := range phaseNames {
		if name == string(text) {
			*p = Phase(i)
		}
	}
	return nil
}

// Done reports whether nothing is left to do for the layer.
func (p Phase) Done() bool { return p == Complete || p == Existing }

// Layer is the state of one layer as a reader sees it.
type Layer struct {
	// ID is the layer's short ID, 12 hexadecimal digits of its blob's digest.
	ID    string `json:"id"`
	Phase Phase  `json:"phase"`
	// Current is how many bytes of the layer's compressed size the present
	// phase has worked off: downloaded, or while extracting extracted. 0 where
	// the engine does not say, as the containerd image store while extracting.
	Current int64 `json:"current,omitempty"`
	// Total is the layer's compressed size in bytes; 0 where it is unknown.
	Total int64 `json:"total,omitempty"`
}

// phaseOf maps an engine's status words to a phase. ok is false for lines
// that are not about a layer's work.
func phaseOf(status string) (p Phase, ok bool) {
	switch status {
	case "Pulling fs layer", "Waiting":
		return Waiting, true
	case "Downloading":
		return Downloading, true
	case "Verifying Checksum":
		return Verifying, true
	case "Download complete":
		return Downloaded, true
	case "Extracting":
		return Extracting, true
	case "Pull complete":
		return Complete, true
	case "Already exists":
		return Existing, true
	}
	// The engine counts down, one line a second, before it tries a layer again.
	if strings.HasPrefix(status, "Retrying in ") {
		return Waiting, true
	}
	return 0, false
}
