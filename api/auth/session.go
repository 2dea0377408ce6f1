package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/towline/towline/puller"
)

// Sessions are logins of browsers, in memory: each stands for a token, and lives
// no longer than that is listed. They are asked from anywhere.
type Sessions struct {
	mu   sync.Mutex
	byID map[[sha256.Size]byte]session // by the hash of the ID
}

type session struct {
	token [sha256.Size]byte // the hash of the token that it stands for
	ends  time.Time
}

const (
	sessionCookie = "towline_session"
	sessionFor    = 12 * time.Hour
	maxSessions   = 1000 // of more, those that would end first end
)

// NewSessions returns none yet.
func NewSessions() *Sessions {
	return &Sessions{byID: make(map[[sha256.Size]byte]session)}
}

// Begin logs in with a token: it returns whose that is, and the cookie that stands
// for it until it expires, which no script can read. r is the request that it is
// an answer to, tokens is nil for none. The error is ErrUnauthorized, or ErrForbidden
// where there are no tokens.
func (s *Sessions) Begin(r *http.Request, tokens *Tokens, token string) (Caller, *http.Cookie, error) {
	if tokens == nil {
		return Caller{}, nil, puller.Errorf(puller.ErrForbidden, "this daemon has no tokens: its auth.token_file is not set")
	}
	hash := sha256.Sum256([]byte(token))
	c, expires, err := tokens.caller(hash)
	if err != nil {
		return Caller{}, nil, err
	}
	ends := time.Now().Add(sessionFor).Truncate(time.Second).UTC()
	if !expires.IsZero() && expires.Before(ends) {
		ends = expires.UTC()
	}
	cookie := cookie(r, s.add(hash, ends))
	cookie.Expires = ends
	return c, cookie, nil
}

// End ends the session that a request shows, if it does, and returns the cookie
// that takes the place of its own.
func (s *Sessions) End(r *http.Request) *http.Cookie {
	if c, err := r.Cookie(sessionCookie); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byID, sha256.Sum256([]byte(c.Value)))
	}
	gone := cookie(r, "")
	gone.MaxAge = -1
	return gone
}

func cookie(r *http.Request, id string) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: id, Path: "/",
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	}
}

// add returns the ID of a new session.
func (s *Sessions) add(token [sha256.Size]byte, ends time.Time) (id string) {
	id = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var first [sha256.Size]byte
	for key, one := range s.byID {
		switch {
		case !now.Before(one.ends):
			delete(s.byID, key)
		case s.byID[first].ends.IsZero() || one.ends.Before(s.byID[first].ends):
			first = key
		}
	}
	if len(s.byID) >= maxSessions {
		delete(s.byID, first)
	}
	s.byID[sha256.Sum256([]byte(id))] = session{token, ends}
	return id
}

// find returns the hash of the token that a session stands for.
func (s *Sessions) find(id string) (token [sha256.Size]byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.byID[sha256.Sum256([]byte(id))]
	return one.token, ok && time.Now().Before(one.ends)
}

// caller returns who a request's session stands for.
func (s *Sessions) caller(r *http.Request, tokens *Tokens) (Caller, error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil || tokens == nil {
		return Caller{}, errNobody
	}
	hash, ok := s.find(c.Value)
	if !ok {
		return Caller{}, puller.Errorf(puller.ErrUnauthorized, "the session has ended; log in again")
	}
	who, _, err := tokens.caller(hash)
	return who, err
}
