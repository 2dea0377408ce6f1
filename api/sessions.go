package api

import (
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
)

// whoami is the answer of /v1/session.
type whoami struct {
	Caller  string       `json:"caller"`
	Scopes  []auth.Scope `json:"scopes"`
	Expires time.Time    `json:"expires,omitzero"` // of a new session
}

// createSession is POST /v1/session: it takes a token and sets a cookie that
// stands for it, which no script can read.
func (s *Server) createSession(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		Token string `json:"token"`
	}
	if err := decodeBody(w, r, &request); err != nil {
		return err
	}
	switch {
	case request.Token == "":
		return invalid("token: empty")
	case s.tokens == nil:
		return puller.Errorf(puller.Forbidden, "this daemon has no tokens: its auth.token_file is not set")
	}
	hash := sha256.Sum256([]byte(request.Token))
	c, expires, err := s.tokens.Caller(hash)
	if err != nil {
		return err
	}
	ends := time.Now().Add(auth.SessionFor).Truncate(time.Second).UTC()
	if !expires.IsZero() && expires.Before(ends) {
		ends = expires.UTC()
	}
	cookie := cookie(r, s.sessions.Begin(hash, ends))
	cookie.Expires = ends
	http.SetCookie(w, cookie)
	return writeJSON(w, http.StatusOK, whoami{c.Name, c.Scopes, ends})
}

// getSession is GET /v1/session.
func (s *Server) getSession(w http.ResponseWriter, r *http.Request) error {
	c, _ := auth.CallerOf(r)
	return writeJSON(w, http.StatusOK, whoami{Caller: c.Name, Scopes: c.Scopes})
}

// endSession is DELETE /v1/session.
func (s *Server) endSession(w http.ResponseWriter, r *http.Request) error {
	if c, err := r.Cookie(auth.SessionCookie); err == nil {
		s.sessions.End(c.Value)
	}
	gone := cookie(r, "")
	gone.MaxAge = -1
	http.SetCookie(w, gone)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func cookie(r *http.Request, id string) *http.Cookie {
	return &http.Cookie{
		Name: auth.SessionCookie, Value: id, Path: "/",
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
}
