package auth

// Scope is a set of routes that a caller may use.
type Scope string

// The scopes.
const (
	ScopeRead  Scope = "read"  // read jobs, their events and output, the engine, the metrics
	ScopePull  Scope = "pull"  // pull images, and cancel such jobs
	ScopeRun   Scope = "run"   // run programs, and cancel such jobs
	ScopeAdmin Scope = "admin" // everything
)

// What a route may need instead of a scope. A token file can't list them.
const (
	Anyone Scope = ""      // nothing
	Known  Scope = "known" // any known caller
)

// allScopes are the scopes that a token file may list.
func allScopes() []Scope { return []Scope{ScopeRead, ScopePull, ScopeRun, ScopeAdmin} }
