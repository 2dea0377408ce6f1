package link

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
)

// callLimit is how long NATS may take for an answer.
const callLimit = 5 * time.Second

// ErrNotPermitted is of a subject that the credentials do not allow.
var ErrNotPermitted = errors.New("the credentials do not permit it")

// Request publishes a message, and returns the answer. The error is ErrNotPermitted at once
// where the credentials do not allow the subject, nats.ErrNoResponders where nobody listens,
// and context.DeadlineExceeded after five seconds.
func (l *Link) Request(ctx context.Context, subject string, header nats.Header, data []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	defer l.await(subject, refuse)()
	m := nats.NewMsg(subject)
	m.Data = data
	if header != nil {
		m.Header = header
	}
	answer, err := l.conn.RequestMsgWithContext(ctx, m)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

// await has refuse called when the server refuses to have something published on a subject.
// NATS does not say which message it was.
func (l *Link) await(subject string, refuse context.CancelCauseFunc) (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.violations[subject]
	l.violations[subject] = func(err error) {
		refuse(err)
		if before != nil {
			before(err)
		}
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.violations, subject)
	}
}

var publishViolation = regexp.MustCompile(`(?i)permissions violation for publish to "([^"]*)"`)

// refused hears of what the server refuses.
func (l *Link) refused(err error) {
	l.log.WithError(err).Debug("NATS refuses something")
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	found := publishViolation.FindStringSubmatch(err.Error())
	if found == nil {
		return
	}
	l.mu.Lock()
	refuse := l.violations[found[1]]
	l.mu.Unlock()
	if refuse != nil {
		refuse(fmt.Errorf("%s: %w", found[1], ErrNotPermitted))
	}
}
