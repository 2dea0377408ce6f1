package puller

// Plan is what a prewarm would do, before anything is pulled. Sizes are in
// bytes as registries transfer them.
type Plan struct {
	Images []PlannedImage `json:"images"` // in the order they were asked for
	// Fetch is what is to be transferred in all, every layer once. Shared is
	// what is not, since several images of the plan have it, and Present what is
	// not, since the engine has it.
	Fetch   int64 `json:"fetch"`
	Shared  int64 `json:"shared"`
	Present int64 `json:"present"`
	// Cached is how much of Fetch is in the accelerator's cache, and does not come
	// from the network.
	Cached int64 `json:"cached,omitempty"`
	// Complete says that no sizes are missing. Without it there is at least so
	// much to fetch.
	Complete bool `json:"complete"`
	// EngineFree is what the engine's disk has left, where that is known.
	// Images take more of it than Fetch: they are kept unpacked.
	EngineFree *int64 `json:"engine_free,omitempty"`
	// Notes are for people: what speaks against the plan as a whole.
	Notes   []string  `json:"notes,omitempty"`
	Skipped []Skipped `json:"skipped,omitempty"`
}

// PlannedImage is what a prewarm would do with one image.
type PlannedImage struct {
	Image    string `json:"image"` // in full form
	Platform string `json:"platform,omitempty"`
	Policy   Policy `json:"policy"`
	Status   Status `json:"status"`
	Digest   string `json:"digest,omitempty"` // that a pull would bring, or that is there
	// Weight is absent where nothing is to be fetched, and where it is not known
	// how much. The latter is in Plan.Complete.
	*Weight
	// Error is what would keep the image from being pulled, or has kept the plan
	// from knowing more.
	Error *JobError `json:"error,omitempty"`
}

// Status is how an image stands at the engine.
type Status string

// The statuses.
const (
	StatusPresent Status = "present" // as its policy asks for
	StatusStale   Status = "stale"   // the registry has another one under its name
	StatusMissing Status = "missing"
	StatusUnknown Status = "unknown" // is there, but what the registry has is not known
)

// Weight is how much of an image is to be fetched. Fetch, what it shares and
// what is present add up to Size.
type Weight struct {
	Size int64 `json:"size"` // bytes of all layers
	// Fetch is bytes that this image adds to the plan: without the layers that
	// images before it bring.
	Fetch         int64 `json:"fetch"`
	Layers        int   `json:"layers"`
	LayersPresent int   `json:"layers_present"` // on the engine
	LayersShared  int   `json:"layers_shared"`  // brought by images before it
}
