package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/towline/towline/puller"
)

// Sessions are logins of browsers, kept in memory. A session stands for a token, and
// ends when the token file no longer lists it. Sessions may be used from several
// goroutines.
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
	// Beyond these, the session that would end first ends.
	maxSessions         = 10_000
	maxSessionsPerToken = 20
)

// NewSessions returns an empty table of sessions.
func NewSessions() *Sessions {
	return &Sessions{byID: make(map[[sha256.Size]byte]session)}
}

// Begin logs in with a token. It returns the token's caller, and a cookie for the
// answer to r. Scripts of a page can't read the cookie. tokens is nil if the daemon has
// no token file. The error is ErrUnauthorized, or ErrForbidden without a token file.
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

// End ends the session of a request, if it has one, and returns a cookie for the answer
// that removes the session's.
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

// add begins a session and returns its ID.
func (s *Sessions) add(token [sha256.Size]byte, ends time.Time) (id string) {
	id = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.byID, func(_ [sha256.Size]byte, one session) bool { return !now.Before(one.ends) })
	s.limit(maxSessionsPerToken, func(one session) bool { return one.token == token })
	s.limit(maxSessions, func(session) bool { return true })
	s.byID[sha256.Sum256([]byte(id))] = session{token, ends}
	return id
}

// limit makes room for one more of the sessions that match. The caller holds the lock.
func (s *Sessions) limit(most int, match func(session) bool) {
	n := 0
	var first [sha256.Size]byte
	for key, one := range s.byID {
		if !match(one) {
			continue
		}
		if n++; n == 1 || one.ends.Before(s.byID[first].ends) {
			first = key
		}
	}
	if n >= most {
		delete(s.byID, first)
	}
}

// find returns the hash of a session's token.
func (s *Sessions) find(id string) (token [sha256.Size]byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.byID[sha256.Sum256([]byte(id))]
	return one.token, ok && time.Now().Before(one.ends)
}

// caller returns the caller of a request's session. The error is ErrUnauthorized.
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
