package puller

// Way is how an engine gets an image that Towline fetches for it.
type Way string

// The ways.
const (
	WayMirror Way = "mirror" // the engine knows Towline's endpoint as a mirror of the registry
	WayAlias  Way = "alias"  // the engine pulls under a temporary name first
	WayNone   Way = "none"   // the engine fetches by itself
)

// Accelerate says whether a pull may be accelerated.
type Accelerate string

// What a request may say of it. AccelerateAuto is the default.
const (
	AccelerateAuto Accelerate = "auto"
	AccelerateOff  Accelerate = "off"
)

// Accelerated is where the bytes of a pull came from, as a result has it. For WayNone
// that is not known.
type Accelerated struct {
	Way    Way    `json:"way"`
	Reason string `json:"reason,omitempty"` // why it is this way
	// FromRegistry, FromCache and FromPeers are bytes of layers and configuration,
	// compressed.
	FromRegistry int64 `json:"from_registry"`
	FromCache    int64 `json:"from_cache"`
	FromPeers    int64 `json:"from_peers"`
}

// AcceleratorState is what GET /v1/engine tells of the accelerator.
type AcceleratorState struct {
	Way    Way    `json:"way"`
	Reason string `json:"reason,omitempty"`
	// Connections is how many fetch from registries now, of at most MaxConnections.
	Connections    int `json:"connections"`
	MaxConnections int `json:"max_connections"`
	// CacheBytes is how much the cache has on disk, of at most MaxCacheBytes.
	CacheBytes    int64 `json:"cache_bytes"`
	MaxCacheBytes int64 `json:"max_cache_bytes"`
}
