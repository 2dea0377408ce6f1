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

// request is Link.Request.
func (c *connection) request(ctx context.Context, subject string, header nats.Header, data []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	defer c.await(subject, refuse)()
	m := nats.NewMsg(subject)
	m.Data = data
	if header != nil {
		m.Header = header
	}
	answer, err := c.nats.RequestMsgWithContext(ctx, m)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

// await has refuse called when the server refuses to have something published on a subject.
// NATS does not say which message it was.
func (c *connection) await(subject string, refuse context.CancelCauseFunc) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.violations[subject]
	c.violations[subject] = func(err error) {
		refuse(err)
		if before != nil {
			before(err)
		}
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.violations, subject)
	}
}

var publishViolation = regexp.MustCompile(`(?i)permissions violation for publish to "([^"]*)"`)

// refused hears of what the server refuses.
func (c *connection) refused(err error) {
	c.log.WithError(err).Debug("NATS refuses something")
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	found := publishViolation.FindStringSubmatch(err.Error())
	if found == nil {
		return
	}
	c.mu.Lock()
	refuse := c.violations[found[1]]
	c.mu.Unlock()
	if refuse != nil {
		refuse(fmt.Errorf("%s: %w", found[1], ErrNotPermitted))
	}
}
