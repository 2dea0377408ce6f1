package client

import (
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// PullRequest asks for one image. All but Image may be left out.
type PullRequest struct {
	Image    string          `json:"image"`
	Platform string          `json:"platform,omitempty"` // os/arch[/variant]
	Policy   puller.Policy   `json:"policy,omitempty"`
	Priority puller.Priority `json:"priority,omitempty"`
	Timeout  puller.Duration `json:"timeout,omitempty"` // for the whole job, from its submission
	Retries  *int            `json:"retries,omitempty"` // attempts after the first
	// Strict has a request of policy newer fail where the registry does not answer. Without
	// it what is present is kept, and a notice says so.
	Strict     bool              `json:"strict,omitempty"`
	Accelerate puller.Accelerate `json:"accelerate,omitempty"`
	// Lease keeps the image from collection for so long, a Go duration: from the job's
	// submission, and anew from its success.
	Lease string `json:"lease,omitempty"`

	// What follows is sent as headers.
	Credentials puller.Credentials `json:"-"`
	// IdempotencyKey makes a request that is sent again give the job that it gave before to
	// the same caller. For a key that came with another request the error is ErrConflict.
	IdempotencyKey string `json:"-"`
	TraceParent    string `json:"-"` // a W3C traceparent
}

// RunRequest asks to run an image's program in a container, once. All but Image may be left
// out.
type RunRequest struct {
	Image      string            `json:"image"`
	Platform   string            `json:"platform,omitempty"` // os/arch[/variant]
	Policy     puller.Policy     `json:"policy,omitempty"`
	Strict     bool              `json:"strict,omitempty"` // as in a PullRequest
	Accelerate puller.Accelerate `json:"accelerate,omitempty"`
	Lease      string            `json:"lease,omitempty"` // as in a PullRequest

	Cmd        []string          `json:"cmd,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitzero"` // empty, it is none; nil, the image's
	Env        map[string]string `json:"env,omitempty"`
	Workdir    string            `json:"workdir,omitempty"`
	User       string            `json:"user,omitempty"`
	TTY        bool              `json:"tty,omitempty"`
	Network    string            `json:"network,omitempty"` // none or bridge
	Memory     puller.Memory     `json:"memory,omitempty"`
	CPUs       puller.CPUs       `json:"cpus,omitempty"`
	Pids       int64             `json:"pids,omitempty"`    // processes and threads
	Timeout    puller.Duration   `json:"timeout,omitempty"` // for the whole job, from its submission

	// What follows is sent as headers, as of a PullRequest.
	Credentials    puller.Credentials `json:"-"`
	IdempotencyKey string             `json:"-"`
	TraceParent    string             `json:"-"`
}

// PrewarmRequest asks for many images as one job. All but Images may be left out. The fields
// from Platform on are for the images that do not say themselves.
type PrewarmRequest struct {
	Images   []PullRequest `json:"images"`
	FailFast bool          `json:"fail_fast,omitempty"` // the first failure cancels the rest

	Platform   string            `json:"platform,omitempty"`
	Policy     puller.Policy     `json:"policy,omitempty"`
	Priority   puller.Priority   `json:"priority,omitempty"`
	Timeout    puller.Duration   `json:"timeout,omitempty"`
	Retries    *int              `json:"retries,omitempty"`
	Strict     bool              `json:"strict,omitempty"`
	Accelerate puller.Accelerate `json:"accelerate,omitempty"`
	Lease      string            `json:"lease,omitempty"` // as in a PullRequest, of all images

	// What follows is sent as headers. Logins are credentials that each name their registry.
	// Credentials are for the images of others.
	Logins         []puller.Credentials `json:"-"`
	Credentials    puller.Credentials   `json:"-"`
	IdempotencyKey string               `json:"-"`
	TraceParent    string               `json:"-"`
}

// SetRequest says which images a host is to have, and when Towline looks whether they are
// still the current ones. All but Images may be left out.
type SetRequest struct {
	Images []PullRequest `json:"images"`
	// Schedule says when the set is refreshed: five fields of cron ("0 5 * * *"), a
	// descriptor ("@daily") or an interval ("@every 30m"). Without one, only images that
	// are missing are pulled.
	Schedule string `json:"schedule,omitempty"`
	Timezone string `json:"timezone,omitempty"` // such as Europe/Berlin; "" for the daemon's own
	// Jitter is a Go duration. Each host refreshes later than its schedule says, always by
	// the same part of Jitter.
	Jitter string `json:"jitter,omitempty"`
	// Window is when refreshes that nobody asks for may begin, such as "22:00-06:00".
	Window   string          `json:"window,omitempty"`
	Policy   puller.Policy   `json:"policy,omitempty"`   // newer, the default, or missing
	Protect  *bool           `json:"protect,omitempty"`  // from collection; true if left out
	Priority puller.Priority `json:"priority,omitempty"` // low is the default
	Platform string          `json:"platform,omitempty"` // of images that name none
}

// LeaseRequest keeps images from collection for a while.
type LeaseRequest struct {
	// Images are references or image IDs. They need not be there yet.
	Images []string `json:"images"`
	TTL    string   `json:"ttl"`            // a Go duration
	Note   string   `json:"note,omitempty"` // for people
}

// FleetSetRequest says which images the hosts of a fleet are to have, which hosts, and how
// fast they get them. All but Images may be left out.
type FleetSetRequest struct {
	Images []PullRequest `json:"images"`
	// Schedule says when the tags are resolved again, as in a SetRequest. Without one, that
	// is done only when the set is put. One controller does it for all hosts.
	Schedule string `json:"schedule,omitempty"`
	Timezone string `json:"timezone,omitempty"` // of Schedule and Window; "" for the controller's own
	Jitter   string `json:"jitter,omitempty"`   // a Go duration: the tags are resolved up to so much later
	// Window is when hosts may begin to pull, such as "22:00-06:00".
	Window string `json:"window,omitempty"`
	// Policy is newer, the default, or missing: a tag that is pinned stays so.
	Policy   puller.Policy   `json:"policy,omitempty"`
	Protect  *bool           `json:"protect,omitempty"`  // from collection, on each host; true if left out
	Priority puller.Priority `json:"priority,omitempty"` // low is the default
	Platform string          `json:"platform,omitempty"` // of images that name none

	// Hosts are labels that a host must have to be a member; without any, all hosts are.
	Hosts   map[string]string    `json:"hosts,omitempty"`
	Rollout fleet.RolloutRequest `json:"rollout,omitzero"`
}

// InviteRequest asks for the credentials of a host of the fleet.
type InviteRequest struct {
	Host       string            `json:"host"`
	Labels     map[string]string `json:"labels,omitempty"`
	Zone       string            `json:"zone,omitempty"`
	Controller bool              `json:"controller,omitempty"` // it may change the fleet too
	Replace    bool              `json:"replace,omitempty"`    // ends the credentials of an earlier invitation
}

// PrewarmOf returns the request for what package compose has read.
func PrewarmOf(r puller.PrewarmRequest) PrewarmRequest {
	return PrewarmRequest{
		Images: pulls(r.Images), FailFast: r.FailFast, Platform: r.Platform, Policy: r.Policy, Priority: r.Priority, Timeout: r.Timeout, Retries: r.Retries,
		Strict: r.Strict, Accelerate: r.Accelerate, Lease: r.Lease, Logins: r.Logins, Credentials: r.Credentials, IdempotencyKey: r.IdempotencyKey, TraceParent: r.TraceParent,
	}
}

// PullOf returns the request for one image of what package compose has read.
func PullOf(r puller.PullRequest) PullRequest {
	return PullRequest{
		Image: r.Image, Platform: r.Platform, Policy: r.Policy, Priority: r.Priority, Timeout: r.Timeout, Retries: r.Retries, Strict: r.Strict, Accelerate: r.Accelerate,
		Lease: r.Lease, Credentials: r.Credentials, IdempotencyKey: r.IdempotencyKey, TraceParent: r.TraceParent,
	}
}

// SetOf returns the request for what a file of a set says.
func SetOf(r keep.SetRequest) SetRequest {
	return SetRequest{
		Images: pulls(r.Images), Schedule: r.Schedule, Timezone: r.Timezone, Jitter: r.Jitter, Window: r.Window,
		Policy: r.Policy, Protect: r.Protect, Priority: r.Priority, Platform: r.Platform,
	}
}

// FleetSetOf returns the request for what a file of a set of the fleet says.
func FleetSetOf(r fleet.SetRequest) FleetSetRequest {
	return FleetSetRequest{
		Images: pulls(r.Images), Schedule: r.Schedule, Timezone: r.Timezone, Jitter: r.Jitter, Window: r.Window,
		Policy: r.Policy, Protect: r.Protect, Priority: r.Priority, Platform: r.Platform, Hosts: r.Hosts, Rollout: r.Rollout,
	}
}

func pulls(images puller.Images) []PullRequest {
	all := make([]PullRequest, 0, len(images))
	for _, r := range images {
		all = append(all, PullOf(r))
	}
	return all
}
