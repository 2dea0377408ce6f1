package engines

import "time"

// Container is what an engine is asked to create. There is no way to ask for
// privileges, host namespaces, devices, mounts or capabilities: a container
// has no capabilities and gets none (no-new-privileges), and what it prints is
// kept by the engine up to a limit, in a form that keeps every byte.
type Container struct {
	Name  string // no other container of the engine may have it
	Image string // an ID, so that no tag that moves can change what runs
	// Manifest is Image.Manifest. Where it is not "", the container is of that one.
	Manifest   string
	Platform   string // os/arch[/variant], or "" for the engine's own
	Cmd        []string
	Entrypoint []string // nil for the image's
	Env        []string // NAME=value
	Workdir    string
	User       string
	TTY        bool
	Network    string // "none" or "bridge"
	Memory     int64  // bytes, swap included; 0 for no limit
	NanoCPUs   int64  // billionths of a CPU; 0 for no limit
	Pids       int64  // processes and threads
	Labels     map[string]string
}

// Exit is how a container has ended.
type Exit struct {
	Code      int  `json:"code"`                 // 128 and the signal's number where a signal ended it
	OOMKilled bool `json:"oom_killed,omitempty"` // the kernel ended it because memory ran out
	// Error is what else went wrong, in the engine's words; "" for nothing.
	Error string `json:"error,omitempty"`
	// Interrupted is set by package run: the engine went away before the exit, so
	// that it may not be the program's own.
	Interrupted bool `json:"interrupted,omitempty"`
}

// ContainerEvents is what an engine has seen of a container itself, since it was started
// last. Sure says that it has not seen what is missing: else it may have forgotten.
type ContainerEvents struct{ Start, Exit, Complete bool }

// ContainerState is a container that the engine has.
type ContainerState struct {
	ID    string
	Names []string // images have none, so only a caller of the engine gives them
	// Image is the name or ID that the image was asked for by.
	Image string
	// Created is when it was created; zero where the engine does not tell.
	Created time.Time
	Labels  map[string]string
	// ImageID is the ID of the image that it was made from.
	ImageID string
	// Started says that it was started: it runs or has exited. Running says that it
	// has not exited.
	Started, Running bool
}

// Labels that containers of runs carry. They find containers; they prove
// nothing, since an image may carry them too (see store.Run.Owns).
const (
	LabelJob      = "towline.job"
	LabelInstance = "towline.instance"
)
