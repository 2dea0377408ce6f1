package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
)

// Tokens are the bearer tokens that a file lists, as hashes. A change of the file
// is seen by a request that comes a second after it. What is no token file is
// logged, and changes nothing; so does a file that is still being written. They
// are asked from anywhere.
type Tokens struct {
	path string
	log  logrus.FieldLogger

	mu      sync.Mutex
	list    *tokenList
	seen    os.FileInfo // of the file that was read last
	missing bool        // it could not be looked at the last time
	looked  time.Time
}

const (
	// tokensEvery is how often the file is looked at, at most.
	tokensEvery = 750 * time.Millisecond
	// tokensSettle is how long a file must have been as it is before it is read:
	// half of a file can be a whole one that says less. Both together are less
	// than a second.
	tokensSettle = 200 * time.Millisecond
)

// OpenTokens reads a token file. The error names the file and what is wrong.
func OpenTokens(path string, log logrus.FieldLogger) (*Tokens, error) {
	t := &Tokens{path: path, log: log}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w; \"towline token new\" makes the file", err)
	}
	if t.list, err = t.read(); err != nil {
		return nil, fmt.Errorf("tokens: %s: %w", path, err)
	}
	t.looked = time.Now()
	if t.seen = info; unsettled(info, t.looked) {
		t.seen = nil // it is read once more
	}
	t.warn(info)
	return t, nil
}

// read reads the file. Whoever may write to it is whoever they like, so only its
// owner may.
func (t *Tokens) read() (*tokenList, error) {
	f, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is no file")
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("others than its owner may write to it (%v); chmod go-w takes that away", info.Mode().Perm())
	}
	content, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(content) > maxTokenFile:
		return nil, fmt.Errorf("it is larger than %d bytes", maxTokenFile)
	}
	return parseTokens(content)
}

func (t *Tokens) warn(info os.FileInfo) {
	if info.Mode().Perm()&0o004 != 0 {
		t.log.WithField("file", t.path).Warn("everyone on this host may read the hashes of the tokens; chmod o-r takes that away")
	}
}

// now returns the list as the file has it.
func (t *Tokens) now() *tokenList {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if d := now.Sub(t.looked); d >= 0 && d < tokensEvery {
		return t.list
	}
	t.looked = now
	log := t.log.WithField("file", t.path)
	info, err := os.Stat(t.path)
	if err != nil {
		if !t.missing {
			log.WithError(err).Error("the tokens can't be read; those that were known stay")
		}
		t.missing = true
		return t.list
	}
	if !t.missing && sameFile(info, t.seen) {
		return t.list
	}
	if unsettled(info, now) {
		t.looked = now.Add(tokensSettle - tokensEvery)
		return t.list
	}
	again := t.seen != nil // else it is read for the second time since the start
	t.seen, t.missing = info, false
	list, err := t.read()
	if err != nil {
		log.WithError(err).Error("the tokens can't be read; those that were known stay")
		return t.list
	}
	if list.certificates == nil && t.list.certificates != nil {
		// Without the key, everything is open to every certificate: a file that has
		// lost it does not say so loudly enough.
		list.certificates = t.list.certificates
		log.Error("the key certificates is not there any more; what it had listed stays. Write \"certificates: []\" for nobody; to open everything to every certificate of auth.tls.ca, restart")
	}
	t.list = list
	if again {
		t.warn(info)
		log.WithField("tokens", len(list.tokens)).Info("the tokens were read anew")
	}
	return t.list
}

// unsettled reports whether a file was written to a moment ago.
func unsettled(info os.FileInfo, now time.Time) bool {
	age := now.Sub(info.ModTime())
	return age >= 0 && age < tokensSettle
}

func sameFile(a, b os.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}

// caller returns whose token has a hash, and when that ends, zero for never. The
// error is ErrUnauthorized.
func (t *Tokens) caller(hash [sha256.Size]byte) (Caller, time.Time, error) {
	token := t.now().find(hash)
	switch {
	case token == nil:
		return Caller{}, time.Time{}, puller.Errorf(puller.ErrUnauthorized, "the token is not known to this daemon")
	case !token.expires.IsZero() && !time.Now().Before(token.expires):
		return Caller{}, time.Time{}, puller.Errorf(puller.ErrUnauthorized, "the token %s has expired, on %s", token.name, token.expires.UTC().Format(time.RFC3339))
	}
	return Caller{Name: "token:" + token.name, Scopes: token.scopes, Rules: token.rules}, token.expires, nil
}

// bearer returns who shows a token in the Authorization header. The error is
// ErrUnauthorized.
func (t *Tokens) bearer(shown []string) (Caller, error) {
	scheme, token, _ := strings.Cut(shown[0], " ")
	token = strings.TrimSpace(token)
	switch {
	case len(shown) > 1:
		return Caller{}, puller.Errorf(puller.ErrUnauthorized, "Authorization: given more than once")
	case !strings.EqualFold(scheme, "Bearer"):
		return Caller{}, puller.Errorf(puller.ErrUnauthorized, "Authorization: only \"Bearer TOKEN\" is taken")
	case token == "":
		return Caller{}, puller.Errorf(puller.ErrUnauthorized, "Authorization: the token is empty")
	case t == nil:
		return Caller{}, puller.Errorf(puller.ErrUnauthorized, "this daemon has no tokens: its auth.token_file is not set")
	}
	c, _, err := t.caller(sha256.Sum256([]byte(token)))
	return c, err
}

// certified returns who shows a certificate that the authority has signed. Those
// that the file does not name may do everything if it names none at all.
func (t *Tokens) certified(name string) (Caller, error) {
	c := Caller{Name: "cert:" + name, Scopes: []Scope{ScopeAdmin}}
	if t == nil {
		return c, nil
	}
	if listed := t.now().certificates; listed != nil {
		may, ok := listed[name]
		if c.Scopes, c.Rules = may.scopes, may.rules; !ok {
			return Caller{}, puller.Errorf(puller.ErrUnauthorized, "the certificate of %q is not among those that this daemon lists", name)
		}
	}
	return c, nil
}
