package classify

import (
	"regexp"
	"strings"

	"github.com/towline/towline/puller"
)

// unpacking finds what engines write before the cause when a layer has arrived and
// can't be unpacked (graph drivers, the containerd image store, Podman).
var unpacking = regexp.MustCompile(`failed to register layer|processing tar file|failed to extract layer|failed to apply layer|mount callback failed|applylayer|unpacking failed|adding layer with blob`)

// unpackCauses are the causes. A cause ends the message: the names of files come before
// it, and an image's files may have any names. A cause in no row is a problem between
// the engine and its disk: a read-only or broken disk, a killed process, missing
// permissions.
var unpackCauses = []pattern{
	{kind: puller.ErrNoSpace, re: ending(`no space left on device`, `disk quota exceeded`)},
	{kind: puller.ErrEngineUnavailable, re: ending(`context canceled`, `transport is closing`, `shutting down`, `: unavailable`)},
	// Another client pruned what had arrived. The next pull brings it again.
	{kind: puller.ErrTruncated, re: ending(`content digest sha256:[0-9a-f]+: not found`, `lease .*(?:does not exist|not found)(?:: not found)?`, `snapshot \S+ does not exist(?:: not found)?`, `failed commit on ref .* rename .*`)},
	// The layer is as it was pushed. No retry can unpack it.
	{kind: puller.ErrInvalidRequest, re: ending(`file name too long`, `too many levels of symbolic links`, `not a directory`, `is a directory`, `file exists`,
		`\blink .*: no such file or directory`, `processing tar file\(.*\): .*: no such file or directory`,
		`invalid (?:sym|hard)link .*`, `duplicates of file paths not supported`)},
	{kind: puller.ErrCorrupt, re: ending(`unexpected eof`, `archive/tar: [a-z ]+`, `invalid tar header`, `gzip: [a-z ]+`, `flate: [a-z0-9 ]+`, `invalid checksum`, `checksum error`,
		`magic number mismatch`, `corruption detected`, `crc mismatch`, `corrupt input[a-z0-9 ]*`, `unpigz: .*`, `bzip2 data invalid[a-z: ]*`, `xz: [a-z ]+`,
		`wrong diff id .*`, `digest mismatch`, `did not match`)},
}

// notTar finds what a graph driver says of a layer that it reads as a plain tar. Engines
// before 23.0 read layers that are compressed with zstd in this way.
var notTar = ending(`archive/tar: invalid tar header`)

// ending returns an expression for a cause at the end of a message. Engines may close a
// message with a parenthesis, a colon or an exit status.
func ending(causes ...string) *regexp.Regexp {
	return regexp.MustCompile(`(?:` + strings.Join(causes, "|") + `)(?:\)|: unknown|: exit status [0-9]+|[\s:])*$`)
}

// ofLayerMessage returns the verdict on a layer that could not be unpacked; ok is false
// for other failures. It is unclear where the engine may not know the layer's
// compression: the registry knows the layer's media type.
func ofLayerMessage(message string) (v verdict, ok bool) {
	at := unpacking.FindStringIndex(message)
	if status := quotedStatus.FindStringIndex(message); at == nil || status != nil && status[0] < at[0] {
		return v, false // or the words come from a registry's body, after its status
	}
	if v, ok = match(unpackCauses, message); !ok {
		return verdict{kind: puller.ErrInternal}, true
	}
	v.unclear = notTar.MatchString(message)
	return v, true
}
