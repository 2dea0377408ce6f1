package api

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
)

// sessions are logins of browsers, in memory: each stands for a token, and lives
// no longer than that is listed. They are asked from anywhere.
type sessions struct {
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

func newSessions() *sessions {
	return &sessions{byID: make(map[[sha256.Size]byte]session)}
}

// begin returns the ID of a new session.
func (s *sessions) begin(token [sha256.Size]byte, ends time.Time) (id string) {
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
func (s *sessions) find(id string) (token [sha256.Size]byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.byID[sha256.Sum256([]byte(id))]
	return one.token, ok && time.Now().Before(one.ends)
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, sha256.Sum256([]byte(id)))
}

// caller returns who a request's session stands for.
func (s *sessions) caller(r *http.Request, tokens *auth.Tokens) (auth.Caller, error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil || tokens == nil {
		return auth.Caller{}, errNobody
	}
	hash, ok := s.find(c.Value)
	if !ok {
		return auth.Caller{}, puller.Errorf(puller.Unauthorized, "the session has ended; log in again")
	}
	who, _, err := tokens.Caller(hash)
	return who, err
}
