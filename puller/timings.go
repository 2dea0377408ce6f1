package puller

// Timings say where the time of a job's last attempt went, each in seconds.
// What has not begun is absent.
type Timings struct {
	Connection Connection `json:"connection"`
	// FirstByte is from the call to the engine until its first message: the
	// engine asks the registry meanwhile.
	FirstByte float64 `json:"first_byte_seconds,omitempty"`
	// Stream is from there to the stream's end, Verify what the proof took.
	Stream float64 `json:"stream_seconds,omitempty"`
	Verify float64 `json:"verify_seconds,omitempty"`
}

// Connection is how a call got its connection to the engine.
type Connection struct {
	Reused      bool    `json:"reused"` // it had served a call before
	IdleSeconds float64 `json:"idle_seconds,omitempty"`
	DialSeconds float64 `json:"dial_seconds,omitempty"`
	TLSSeconds  float64 `json:"tls_seconds,omitempty"`
}
