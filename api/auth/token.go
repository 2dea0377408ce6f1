package auth

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/ownerfile"
)

// Tokens are the bearer tokens and the certificates that a token file lists. A change
// of the file counts within a second. Towline logs a file that it can't read, and keeps
// what it knew. Tokens may be used from several goroutines.
type Tokens struct {
	path string
	log  logrus.FieldLogger
	list *Reloaded[*tokenList]
}

// OpenTokens reads a token file. The error names the file and the fault.
func OpenTokens(path string, log logrus.FieldLogger) (*Tokens, error) {
	t := &Tokens{path: path, log: log.WithField("file", path)}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("tokens: %w; \"towline token new\" makes the file", err)
	}
	failed := func(err error) {
		t.log.WithError(err).Error("the tokens can't be read; those that were known stay")
	}
	var err error
	if t.list, err = Load(t.read, failed, path); err != nil {
		return nil, fmt.Errorf("tokens: %s: %w", path, err)
	}
	return t, nil
}

// read reads the file. Only its owner may be able to write to it: a writer can give
// themselves every scope.
func (t *Tokens) read(old *tokenList) (*tokenList, error) {
	content, mode, err := ownerfile.Read(t.path, maxTokenFile)
	if err != nil {
		return nil, err
	}
	list, err := parseTokens(content)
	if err != nil {
		return nil, err
	}
	if mode&0o004 != 0 {
		t.log.Warn("other users can read the hashes of the tokens; run chmod o-r on the file")
	}
	if old != nil {
		if list.certificates == nil && old.certificates != nil {
			// Without the key, every certificate has every scope. A file that has lost
			// the key may have lost it by mistake.
			list.certificates = old.certificates
			t.log.Error("the key certificates is not there any more; what it had listed stays. Write \"certificates: []\" for nobody; to open everything to every certificate of auth.tls.ca, restart")
		}
		t.log.WithField("tokens", len(list.tokens)).Info("the tokens were read again")
	}
	return list, nil
}

// caller returns the caller whose token has a hash, and when the token expires, zero for
// never. The error is ErrUnauthorized.
func (t *Tokens) caller(hash [sha256.Size]byte) (Caller, time.Time, error) {
	token := t.list.Now().find(hash)
	switch {
	case token == nil:
		return Caller{}, time.Time{}, puller.Errorf(puller.ErrUnauthorized, "the token is not known to this daemon; make another one on its host with towline token new")
	case !token.expires.IsZero() && !time.Now().Before(token.expires):
		return Caller{}, time.Time{}, puller.Errorf(puller.ErrUnauthorized, "the token %s has expired, on %s", token.name, token.expires.UTC().Format(time.RFC3339))
	}
	return Caller{Name: "token:" + token.name, Scopes: token.scopes, Rules: token.rules}, token.expires, nil
}

// bearer returns the caller of an Authorization header. The error is ErrUnauthorized.
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

// certified returns the caller of a certificate with a common name. The listener has
// verified the certificate. Without a list of certificates, each one has every scope.
func (t *Tokens) certified(name string) (Caller, error) {
	c := Caller{Name: "cert:" + name, Scopes: []Scope{ScopeAdmin}}
	if t == nil {
		return c, nil
	}
	if listed := t.list.Now().certificates; listed != nil {
		may, ok := listed[name]
		if c.Scopes, c.Rules = may.scopes, may.rules; !ok {
			return Caller{}, puller.Errorf(puller.ErrUnauthorized, "the certificate of %q is not among those that this daemon lists", name)
		}
	}
	return c, nil
}
