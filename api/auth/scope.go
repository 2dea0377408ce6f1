package auth

// Scope is a kind of thing that a caller may be allowed.
type Scope string

// The scopes.
const (
	ScopeRead  Scope = "read"  // see jobs, their events and output, the engine, the metrics
	ScopePull  Scope = "pull"  // have images pulled, and such jobs cancelled
	ScopeRun   Scope = "run"   // have programs run, and such jobs cancelled
	ScopeAdmin Scope = "admin" // everything
)

// What a request may need beside them. No caller is given them.
const (
	Anyone Scope = ""      // nothing: it is for whoever comes
	Known  Scope = "known" // that it is known who asks
)

// allScopes are all that a caller may be given.
func allScopes() []Scope { return []Scope{ScopeRead, ScopePull, ScopeRun, ScopeAdmin} }
