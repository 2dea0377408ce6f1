package control

import (
	"context"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// Invite implements fleet.Service.
func (c *Controller) Invite(ctx context.Context, r fleet.InviteRequest) (fleet.Invitation, error) {
	if err := fleet.CheckHost(r.Host); err != nil {
		return fleet.Invitation{}, err
	}
	if _, err := c.ready(); err != nil {
		return fleet.Invitation{}, err
	}
	if c.o.Inviter == nil {
		return fleet.Invitation{}, puller.Errorf(puller.ErrConflict, "this daemon runs no NATS of its own (fleet.embedded), so it can't invite; make credentials where NATS has its users")
	}
	if r.Host == c.o.Host {
		return fleet.Invitation{}, puller.Errorf(puller.ErrConflict, "host: %s is this host, which is in the fleet already", r.Host)
	}
	return c.o.Inviter.Invite(ctx, r)
}

// RemoveHost implements fleet.Service.
func (c *Controller) RemoveHost(ctx context.Context, id string) (fleet.Host, error) {
	s, err := c.ready()
	if err != nil {
		return fleet.Host{}, err
	}
	c.state.mu.Lock()
	h := c.state.known.Hosts[id]
	var was fleet.Host
	if h != nil {
		was = c.state.known.ViewHost(id, h)
	}
	c.state.mu.Unlock()
	switch {
	case h == nil:
		return was, puller.Errorf(puller.ErrNotFound, "the fleet has no host %q", puller.Clip(id))
	case id == c.o.Host:
		return was, puller.Errorf(puller.ErrConflict, "host: %s is this host; leave the fleet by its configuration", id)
	case was.Live && (!was.Invited || c.o.Inviter == nil):
		return was, puller.Errorf(puller.ErrConflict, "host: %s is live, and would come back; stop it, or take its credentials away, first", id)
	}
	if c.o.Inviter != nil {
		if err := c.o.Inviter.Withdraw(ctx, id); err != nil {
			return was, err
		}
	}
	if err := s.removeHost(ctx, id); err != nil {
		return was, s.unavailable("the host could not be removed", err)
	}
	c.state.mu.Lock()
	delete(c.state.known.Hosts, id)
	c.state.known.Remove("", id)
	c.state.nudge()
	c.state.mu.Unlock()
	return was, nil
}
