package puller

import "time"

// Output is which of its streams a container printed to. With a TTY there is
// only Stdout.
type Output string

// The streams of a container.
const (
	Stdout Output = "stdout"
	Stderr Output = "stderr"
)

// Pull is what an engine is asked to pull.
type Pull struct {
	Image       string // a reference in full form
	Platform    string // os/arch[/variant], or "" for the engine's own
	Credentials Credentials
	// Connected, if not nil, is told which connection the call got, before the
	// first message.
	Connected func(Connection) `json:"-"`
	// Busy, if not nil, is told by an Accelerator that the registry asks for fewer
	// requests, and for how long it makes none. It may be called from any goroutine.
	Busy func(d time.Duration) `json:"-"`
}

// Image is an image in the engine's store.
type Image struct {
	// ID is the image's ID: the digest of its configuration, or in the
	// containerd image store that of its manifest, or of the index that it is in.
	ID string
	// Manifest is the digest of the platform's own manifest, where the store tells
	// it: the containerd image store does.
	Manifest string
	// Content says whether all of the platform's content is there.
	Content Content
	// RepoTags are the names it has, as "name:tag" with the name as the engine
	// shortens it.
	RepoTags []string
	// RepoDigests are the registry digests it is known under, as
	// "name@sha256:…" with the name as the engine shortens it.
	RepoDigests []string
	// Platform is os/arch[/variant]; what the engine does not tell is missing.
	Platform  string
	OSVersion string // of images for Windows
	Size      int64  // in bytes, unpacked where the engine says so
	// DiffIDs are the digests of its layers' contents, lowest first.
	DiffIDs []string
}

// Content is how much of an image's content a store says that it has. Graph drivers
// keep no image before they have all of it. The containerd image store does, and tells
// from API 1.48 on.
type Content int

// How much of an image is there.
const (
	// ContentUnknown is of a store that may have an image without its layers, and
	// may show another platform of the image than the one that was asked for.
	ContentUnknown Content = iota
	ContentPartial         // some or all of it is not there
	ContentWhole
)

// StoreContainerd is the image store that keeps several platforms under one name.
const StoreContainerd = "containerd"

// EngineInfo describes an engine, in the form of GET /v1/engine.
type EngineInfo struct {
	Name       string `json:"name,omitempty"`
	Version    string `json:"version,omitempty"`
	APIVersion string `json:"api_version,omitempty"` // the one negotiated
	// ImageStore is StoreContainerd, or the name of the graph driver.
	ImageStore string `json:"image_store,omitempty"`
	// Platform is os/arch: what the engine pulls when it is asked for none.
	Platform string `json:"platform,omitempty"`
	// OSVersion is the build of Windows that the engine runs on.
	OSVersion string `json:"os_version,omitempty"`
	Reachable bool   `json:"reachable"`
	// OwnRegistries names settings of the engine, such as insecure-registries, that it takes no
	// notice of where a hosts.toml names a mirror of all registries; "" for none.
	OwnRegistries string `json:"-"`
	// Disk is nil where it is not known.
	Disk *Disk `json:"disk,omitempty"`
	// Accelerator is how pulls of this engine are accelerated. The Service fills it in.
	Accelerator *AcceleratorState `json:"accelerator,omitempty"`
}

// Disk is a file system. Both are in bytes. Free is what is left for those who are not root.
type Disk struct {
	Total int64 `json:"total"`
	Free  int64 `json:"free"`
}

// Used returns the share of the file system that is not free, from 0 to 1.
func (d Disk) Used() float64 {
	if d.Total <= 0 {
		return 0
	}
	return 1 - float64(min(max(d.Free, 0), d.Total))/float64(d.Total)
}
