package docker

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/towline/towline/puller"
)

// What is tried with containers. No registry takes part in it.
const (
	opCreate     = "create a container of"
	opRun        = "run"
	opFollow     = "follow"
	opStop       = "stop"
	opRemove     = "remove"
	opContainers = "list containers"
)

var containerOps = []string{opCreate, opRun, opFollow, opStop, opRemove, opContainers}

// containerWords maps what engines say of containers to kinds, as words does
// for pulls; messages have the caller's own words in them, such as the program's
// name. So what the caller is at fault for comes first.
var containerWords = []struct {
	kind   puller.ErrorKind
	re     *regexp.Regexp
	advice string // what to do, where the engine's words do not say
}{
	{kind: puller.ErrEngineUnavailable, re: regexp.MustCompile(`^client version|client sent an http request to an https server`)},
	{kind: puller.ErrConflict, re: regexp.MustCompile(`^conflict\. the container name |the container name "[^"]*" is already in use`)},
	{puller.ErrInvalidRequest, anyOf(
		`network bridge not found`, `unable to find network with name or id bridge`,
		`could not find bridge`, `bridge docker0 .*(not found|no such)`,
	), "this engine has no bridge network that works; ask with network: none, or mend its bridge, for example by a restart of the engine"},
	{kind: puller.ErrInvalidRequest, re: anyOf(
		`executable file not found`, `executable file .* not found`,
		`exec: .*: (no such file or directory|permission denied|not a directory|is a directory|argument list too long|exec format error|invalid argument|too many levels of symbolic links|file name too long)`,
		`exec format error`, `no command specified`, `no command or entrypoint`,
		`unable to find (user|group)`, `no matching entries in (passwd|group) file`, `no users found`, `no groups found`, `user: (unknown|invalid)`, `uids and gids must be in range`,
		`working directory .* is invalid`, `cannot mkdir`, `(merged|rootfs|[0-9a-f]{64})/.*: not a directory`, `set in config\.json failed`, `workdir .* does not exist`,
		`file name too long`, `path too long`, `evalsymlinksinscope: too many links`, `too many levels of symbolic links`, `mkdir [^:]*: no such file or directory`,
		`minimum memory limit`, `memory limit too low`, `range of cpus is from`, `argument list too long`,
		`network [^ ]+ not found`, `unable to find network`,
	)},
	{kind: puller.ErrPlatformMismatch, re: anyOf(`does not match the specified platform`, `cannot be used on this platform`, `no match for platform`)},
	{kind: puller.ErrNoSpace, re: anyOf(`no space left on device`, `disk quota exceeded`)},
	// In the containerd image store, a platform or a layer of an image may have gone.
	{kind: puller.ErrNotFound, re: anyOf(`^no such (image|container)`, `image not known`, `no container with (name or )?id`, `does not provide the specified platform`, `^apply layer error .*content digest [^ ]+: not found$`)},
	// The engine's own network is in the way: its rules are being changed, or what
	// a killed engine left is still there.
	{puller.ErrEngineUnavailable, anyOf(`failed to create endpoint .* on network`, `endpoint with name .* already exists in network`, `failed to set up container networking`, `driver failed programming external connectivity`),
		"if it stays so, ask with network: none, or mend the engine's bridge"},
	// An engine that stops, has just been killed or is out of its own means.
	{kind: puller.ErrEngineUnavailable, re: anyOf(
		`^(unexpected )?eof$`, `context canceled`, `context deadline exceeded`, `shutting down`, `daemon is stopping`, `connection re(fused|set)`, `broken pipe`, `closed (pipe|network connection)`,
		`transport is closing`, `ttrpc: closed`, `containerd\.sock: connect: no such file or directory`, `failed to start shim`, `shim disconnected`, `error while dialing`,
		`(task|container|id|shim)( with)?( given)?( id)?( "?[0-9a-f]{64}"?:?)?:? (is )?already (exists|in use)`, `id already in use`, `task [0-9a-f]{64}: already exists`, `cgroup .*device or resource busy`,
		`cannot allocate memory`, `resource temporarily unavailable`, `too many open files`, `fork/exec .*: signal: killed`,
	)},
	// The engine's own runtime can't start it. Podman answers that with 409.
	{kind: puller.ErrInternal, re: anyOf(`oci permission denied`, `oci runtime`, `^preparing container `)},
}

func anyOf(patterns ...string) *regexp.Regexp { return regexp.MustCompile(strings.Join(patterns, "|")) }

// ofContainers gives what an engine says of containers its kind, and leaves
// paths on the engine's disk out of the words: they are for callers who may know
// the container only.
func ofContainers(err error) (puller.ErrorKind, error) {
	message := err.Error()
	shown := withoutHostPaths(message)
	if shown != message {
		err = &saidError{shown, err}
	}
	for _, row := range containerWords {
		if row.re.MatchString(strings.ToLower(message)) {
			if row.advice != "" {
				err = &saidError{fmt.Sprintf("%s (%s)", shown, row.advice), err}
			}
			return row.kind, err
		}
	}
	return kindOfType(err), err
}

// hostPath finds the part of a path that leads to a container's root or files on
// the engine's disk, as the graph drivers and containerd's snapshotters name
// them (overlay2/ID/merged, vfs/dir/ID, snapshots/12/fs).
var hostPath = regexp.MustCompile(`/[^\s"':]*/(?:[0-9a-f]{12,64}(?:-init)?|snapshots/[0-9]+)(?:/(?:merged|rootfs|diff|fs|mnt))?(/|\b)`)

func withoutHostPaths(message string) string { return hostPath.ReplaceAllString(message, "$1") }
