package classify

import (
	"regexp"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// The operations that errors name.
const (
	OpPull    = "pull"
	OpInspect = "inspect"
	OpInfo    = "ask the engine"
	OpImages  = "list the images"
	OpEvents  = "follow the engine's events"

	OpRemoveImage = "remove the image"
	OpTag         = "tag the image"

	// No registry takes part in these.
	OpCreate     = "create a container of"
	OpRun        = "run"
	OpFollow     = "follow"
	OpStop       = "stop"
	OpRemove     = "remove"
	OpContainers = "list containers"
)

func isContainerOp(op string) bool {
	return slices.Contains([]string{OpCreate, OpRun, OpFollow, OpStop, OpRemove, OpContainers}, op)
}

// containerMessages are engines' messages about containers. The first row that matches
// wins. Messages quote the caller's own words, such as the program's name, so the rows
// about the caller's mistakes come first.
var containerMessages = []pattern{
	{kind: puller.ErrEngineUnavailable, re: regexp.MustCompile(`^client version `)},
	{kind: puller.ErrEngineUnavailable, phrases: []string{"client sent an http request to an https server"}},
	{kind: puller.ErrConflict, re: regexp.MustCompile(`^conflict\. the container name |the container name "[^"]*" is already in use`)},
	{kind: puller.ErrInvalidRequest, re: anyOf(
		`network bridge not found`, `unable to find network with name or id bridge`,
		`could not find bridge`, `bridge docker0 .*(not found|no such)`,
	), advice: "this engine has no bridge network that works; ask with network: none, or mend its bridge, for example by a restart of the engine"},
	{kind: puller.ErrInvalidRequest, re: anyOf(`no command specified`, `no command or entrypoint`),
		advice: "the image names no program; set cmd or entrypoint"},
	{kind: puller.ErrInvalidRequest, re: anyOf(
		`executable file not found`, `executable file .* not found`,
		`exec: .*: (no such file or directory|permission denied|not a directory|is a directory|argument list too long|exec format error|invalid argument|too many levels of symbolic links|file name too long)`,
		`exec format error`,
		`unable to find (user|group)`, `no matching entries in (passwd|group) file`, `no users found`, `no groups found`, `user: (unknown|invalid)`, `uids and gids must be in range`,
		`working directory .* is invalid`, `cannot mkdir`, `(merged|rootfs|[0-9a-f]{64})/.*: not a directory`, `set in config\.json failed`, `workdir .* does not exist`,
		`file name too long`, `path too long`, `evalsymlinksinscope: too many links`, `too many levels of symbolic links`, `mkdir [^:]*: no such file or directory`,
		`minimum memory limit`, `memory limit too low`, `range of cpus is from`, `argument list too long`,
		`network [^ ]+ not found`, `unable to find network`,
	)},
	{kind: puller.ErrPlatformMismatch, re: anyOf(`does not match the specified platform`, `cannot be used on this platform`, `no match for platform`)},
	{kind: puller.ErrNoSpace, re: anyOf(`no space left on device`, `disk quota exceeded`)},
	// In the containerd image store, a platform or a layer of an image may be missing.
	{kind: puller.ErrNotFound, re: anyOf(`^no such (image|container)`, `image not known`, `no container with (name or )?id`, `does not provide the specified platform`, `^apply layer error .*content digest [^ ]+: not found$`)},
	// The engine's own network fails: its rules are being changed, or a killed engine
	// left an endpoint behind.
	{kind: puller.ErrEngineUnavailable, re: anyOf(`failed to create endpoint .* on network`, `endpoint with name .* already exists in network`, `failed to set up container networking`, `driver failed programming external connectivity`),
		advice: "if it stays so, ask with network: none, or mend the engine's bridge"},
	// The engine is being stopped, was killed, or has no memory, processes or files left.
	{kind: puller.ErrEngineUnavailable, re: anyOf(
		`^(unexpected )?eof$`, `context canceled`, `context deadline exceeded`, `shutting down`, `daemon is stopping`, `connection re(fused|set)`, `broken pipe`, `closed (pipe|network connection)`,
		`transport is closing`, `ttrpc: closed`, `containerd\.sock: connect: no such file or directory`, `failed to start shim`, `shim disconnected`, `error while dialing`,
		`(task|container|id|shim)( with)?( given)?( id)?( "?[0-9a-f]{64}"?:?)?:? (is )?already (exists|in use)`, `id already in use`, `task [0-9a-f]{64}: already exists`, `cgroup .*device or resource busy`,
		`cannot allocate memory`, `resource temporarily unavailable`, `too many open files`, `fork/exec .*: signal: killed`,
	)},
	// The engine's own runtime can't start it. Podman answers that with 409.
	{kind: puller.ErrInternal, re: anyOf(`oci permission denied`, `oci runtime`, `^preparing container `)},
}

// What engines answer to a stop or a removal that has nothing left to do.
var (
	NotRunning        = regexp.MustCompile(`is not running`)
	RemovalInProgress = regexp.MustCompile(`already in progress`)
)

// ofContainerMessage returns the verdict on a failure with a container.
func ofContainerMessage(err error) verdict {
	if v, ok := match(containerMessages, strings.ToLower(ends(engineMessage(err)))); ok {
		return v
	}
	return verdict{kind: kindOfType(err)}
}

// hostPath finds the part of a path that leads to a container's root or files on the
// engine's disk, as graph drivers and containerd's snapshotters name them
// (overlay2/ID/merged, vfs/dir/ID, snapshots/12/fs). Callers may not know it.
var hostPath = regexp.MustCompile(`/[^\s"':]*/(?:[0-9a-f]{12,64}(?:-init)?|snapshots/[0-9]+)(?:/(?:merged|rootfs|diff|fs|mnt))?(/|\b)`)

func withoutHostPaths(message string) string { return hostPath.ReplaceAllString(message, "$1") }
