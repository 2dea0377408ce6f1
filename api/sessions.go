package api

import (
	"net/http"
	"time"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/input"
)

// whoami is the answer of /v1/session.
type whoami struct {
	Caller  string       `json:"caller"`
	Scopes  []auth.Scope `json:"scopes"`
	Expires time.Time    `json:"expires,omitzero"` // of a new session
}

// createSession is POST /v1/session. It takes a token and sets the cookie of a session.
func (s *Server) createSession(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Token string `json:"token"`
	}
	if err := input.Body(w, r, &request); err != nil {
		return err
	}
	if request.Token == "" {
		return input.Invalid("token: empty")
	}
	c, cookie, err := s.sessions.Begin(r, s.tokens, request.Token)
	if err != nil {
		return err
	}
	http.SetCookie(w, cookie)
	return s.writeJSON(w, r, http.StatusOK, whoami{c.Name, c.Scopes, cookie.Expires})
}

// getSession is GET /v1/session.
func (s *Server) getSession(w http.ResponseWriter, r *http.Request) error {
	c, _ := auth.CallerOf(r)
	return s.writeJSON(w, r, http.StatusOK, whoami{Caller: c.Name, Scopes: c.Scopes})
}

// endSession is DELETE /v1/session.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) error {
	http.SetCookie(w, s.sessions.End(r))
	w.WriteHeader(http.StatusNoContent)
	return nil
}
