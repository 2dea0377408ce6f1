package docker

import (
	"regexp"
	"strings"

	"github.com/towline/towline/puller"
)

// unpacking finds what engines say before the cause, whatever that is, when a
// layer that has arrived can't be unpacked (graph drivers, the containerd image
// store, Podman).
var unpacking = regexp.MustCompile(`failed to register layer|processing tar file|failed to extract layer|failed to apply layer|mount callback failed|applylayer|unpacking failed|adding layer with blob`)

// causes maps the causes to kinds. A cause ends the message, since the names of
// files stand before it: they are the image's, and may be any words. What is in no
// row is between the engine and its disk: a disk that is read-only or broken, a
// process that was killed, rights that are missing.
var causes = []struct {
	kind puller.ErrorKind
	re   *regexp.Regexp
}{
	{puller.ErrNoSpace, ending(`no space left on device`, `disk quota exceeded`)},
	{puller.ErrEngineUnavailable, ending(`context canceled`, `transport is closing`, `shutting down`, `: unavailable`)},
	// It came as it was pushed, and can't be unpacked on any try.
	{puller.ErrInvalidRequest, ending(`file name too long`, `too many levels of symbolic links`, `not a directory`, `is a directory`, `file exists`,
		`\blink .*: no such file or directory`, `processing tar file\(.*\): .*: no such file or directory`,
		`invalid (?:sym|hard)link .*`, `duplicates of file paths not supported`)},
	{puller.ErrCorrupt, ending(`unexpected eof`, `archive/tar: [a-z ]+`, `invalid tar header`, `gzip: [a-z ]+`, `flate: [a-z0-9 ]+`, `invalid checksum`, `checksum error`,
		`magic number mismatch`, `corruption detected`, `crc mismatch`, `corrupt input[a-z0-9 ]*`, `unpigz: .*`, `bzip2 data invalid[a-z: ]*`, `xz: [a-z ]+`,
		`wrong diff id .*`, `digest mismatch`, `did not match`)},
}

// notTar is what a graph driver says of a layer that it takes for a plain tar.
// Engines before 23.0 take one for that which is compressed with zstd.
var notTar = ending(`archive/tar: invalid tar header`)

// ending returns an expression for a cause at the end of a message, and after it
// what engines close a message with.
func ending(causes ...string) *regexp.Regexp {
	return regexp.MustCompile(`(?:` + strings.Join(causes, "|") + `)(?:\)|: unknown|: exit status [0-9]+|[\s:])*$`)
}

// kindOfUnpacking gives a lower-cased message its kind by what kept a layer from
// being unpacked, "" if that is not what it tells. unclear says that the layer
// may be of a form that the engine can't read: its type, which the registry
// knows, tells.
func kindOfUnpacking(message string) (kind puller.ErrorKind, unclear bool) {
	at := unpacking.FindStringIndex(message)
	if told := toldStatus.FindStringIndex(message); at == nil || told != nil && told[0] < at[0] {
		return "", false // or it is what a registry says after its status
	}
	for _, c := range causes {
		if c.re.MatchString(message) {
			return c.kind, notTar.MatchString(message)
		}
	}
	return puller.ErrInternal, false
}
