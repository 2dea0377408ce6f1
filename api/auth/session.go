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

// What a browser shows, and for how long it may.
const (
	SessionCookie = "towline_session"
	SessionFor    = 12 * time.Hour
	maxSessions   = 1000 // of more, those that would end first end
)

// NewSessions returns none yet.
func NewSessions() *Sessions {
	return &Sessions{byID: make(map[[sha256.Size]byte]session)}
}

// Begin returns the ID of a new session.
func (s *Sessions) Begin(token [sha256.Size]byte, ends time.Time) (id string) {
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

// End ends a session.
func (s *Sessions) End(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, sha256.Sum256([]byte(id)))
}

// Caller returns who a request's session stands for.
func (s *Sessions) Caller(r *http.Request, tokens *Tokens) (Caller, error) {
	c, err := r.Cookie(SessionCookie)
	if err != nil || tokens == nil {
		return Caller{}, errNobody
	}
	hash, ok := s.find(c.Value)
	if !ok {
		return Caller{}, puller.Errorf(puller.Unauthorized, "the session has ended; log in again")
	}
	who, _, err := tokens.Caller(hash)
	return who, err
}

// errNobody is for one who shows nothing. It is also read by those who use the
// command line.
var errNobody = puller.Errorf(puller.Unauthorized,
	"no token was shown; send \"Authorization: Bearer TOKEN\" (towline takes it from TOWLINE_TOKEN, or --token)")
