// Package auth identifies the caller of a request: by the connection, a token, a
// certificate or a session. It also has the caller's scopes. Package api has the scopes
// that routes need.
package auth
