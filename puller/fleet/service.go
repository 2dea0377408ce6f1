package fleet

import (
	"context"
	"errors"
	"time"

	"github.com/towline/towline/stream"
)

// A Service changes a fleet and tells of it. The API uses it. Its methods may be called from
// anywhere.
//
// On a host that is no controller the error of all but Link is ErrForbidden. Where NATS does
// not answer it is ErrOverloaded with the reason for those that change something; the others
// say what was known last.
type Service interface {
	// Link says how this host stands to its fleet.
	Link() Link

	// PutSet makes or replaces a set. It resolves its tags to digests; when it returns, the
	// new generation is kept by NATS, and nothing is changed where there is an error:
	// ErrInvalidRequest, naming the field, ErrForbidden, naming the rule, ErrConflict where
	// another call has changed the set meanwhile, or the registry's.
	PutSet(ctx context.Context, name string, r SetRequest) (Set, error)
	// DeleteSet forgets a set, and returns it as it stood. Its images stay on the hosts, and
	// are not protected any more. The error is ErrNotFound.
	DeleteSet(ctx context.Context, name string) (Set, error)
	// Sets returns all sets by name, without their members.
	Sets() ([]Set, error)
	// Set returns a set with its members, or ErrNotFound.
	Set(name string) (Set, error)
	// Wait returns the set when each member that is not away has done for a generation what
	// it can, or the rollout does not go on by itself. The error is nil if all that are not
	// away have proven it. Else it names those that have not, and has the kind of their
	// errors: ErrForbidden, if they refused. It is ErrNotFound if no member is there, and
	// ErrConflict if a later generation has come. A set or generation that is not known here
	// yet is waited for too, for some seconds. If ctx ends first, the error is ctx's.
	Wait(ctx context.Context, name string, generation uint64) (Set, error)
	// ChangeRollout pauses, resumes or cancels the rollout of a set. The error is
	// ErrNotFound, or ErrConflict where the rollout has ended.
	ChangeRollout(ctx context.Context, name string, action RolloutAction) (Set, error)

	// Hosts returns all hosts by ID.
	Hosts() ([]Host, error)
	// Invite makes credentials for a host, which are told once. The error is
	// ErrInvalidRequest, or ErrConflict where this daemon runs no NATS of its own.
	Invite(ctx context.Context, r InviteRequest) (Invitation, error)
	// RemoveHost forgets a host that is away, and withdraws its invitation. The error is
	// ErrNotFound, or ErrConflict where it is live and was not invited.
	RemoveHost(ctx context.Context, id string) (Host, error)

	// Watch returns the present state of a set and its members, or of all sets without
	// their members if name is "", and what reads the events from there on. The error is
	// ErrNotFound.
	Watch(name string) ([]stream.Frame, Reader, error)
}

// A Reader reads events of a fleet. A slow reader gets the latest of each set and member,
// not all between.
type Reader interface {
	// Next returns what is new. It waits for it; after wait without anything, the batch and
	// the error are nil. The error is io.EOF when the Service has ended, or ctx's.
	Next(ctx context.Context, wait time.Duration) (*stream.Batch, error)
}

// InviteRequest asks for credentials of a host.
type InviteRequest struct {
	Host   string            `json:"host"`
	Labels map[string]string `json:"labels,omitempty"`
	Zone   string            `json:"zone,omitempty"`
	// Controller lets it change the fleet too.
	Controller bool `json:"controller,omitempty"`
	// Replace ends the credentials that the host was invited with before.
	Replace bool `json:"replace,omitempty"`

	origin `json:"-"`
}

// Invitation is what a host needs to join.
type Invitation struct {
	Fleet  string            `json:"name"`
	Host   string            `json:"host"`
	Labels map[string]string `json:"labels,omitempty"`
	Zone   string            `json:"zone,omitempty"`
	URL    string            `json:"url"` // of the servers, with commas
	// Creds is the content of the file that fleet.creds of the host names. It is a secret.
	Creds string `json:"creds"`
}

// Invited is the value of a host in the bucket Invited: what was said of it when it was
// invited. It counts, and not what the host says of itself.
type Invited struct {
	Labels     map[string]string `json:"labels,omitempty"`
	Zone       string            `json:"zone,omitempty"`
	Controller bool              `json:"controller,omitempty"`
}

// ErrStarts says that the NATS server of this daemon is about to run.
var ErrStarts = errors.New("the fleet's server starts")

// An Inviter makes and withdraws credentials of hosts. It may be called from anywhere.
type Inviter interface {
	// Invite makes credentials, which work when it returns. The error is ErrInvalidRequest,
	// naming the field, ErrConflict where the host is invited already, or ErrOverloaded
	// where the server does not run.
	Invite(ctx context.Context, r InviteRequest) (Invitation, error)
	// Withdraw has NATS refuse a host from now on, and ends its connections. A host without
	// credentials is no error.
	Withdraw(ctx context.Context, host string) error
}
