// Package sets keeps images on a host: named lists of them, which are pulled, looked after,
// and refreshed by their schedules. Each refresh is a prewarm job.
package sets

import (
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/definition"
)

// set is a set as it stands. Its name, source, file, tags, time of change and definition stay
// the same; table.mu guards the rest.
type set struct {
	name    string
	source  keep.SetSource
	file    string
	tags    map[string]string // at which digests the fleet keeps names, by REPOSITORY:TAG
	changed time.Time
	*definition.Definition
	images []*image

	lastRun time.Time // when the last refresh began
	due     time.Time // when the next one begins by itself; zero for never
	job     string    // of the last refresh
	running bool      // the job has not ended
	fault   string    // why the last refresh could not begin
}

// image is an image of a set as it stands.
type image struct {
	puller.PullRequest               // as the set asks for it
	policy             puller.Policy // its own, or the set's

	state   keep.SetState
	reason  string
	digest  string
	checked time.Time
	job     string // the last pull of it

	listed   string    // the ID that the engine's list had under its name at the last look
	proven   string    // the digest that the last refresh has proven
	failures int       // pulls in a row that have failed
	retry    bool      // it is to be pulled though it is there: the last pull of it failed
	repairAt time.Time // not before that it is pulled again by itself
	busy     bool      // a job pulls it
	vanished bool      // somebody else has removed it, and it has not come again
	idle     bool      // a collection has removed it: it comes again with the next refresh
}

const notLooked = "not looked at yet"

// newImages returns the images of a definition. What is known of those of an older one stays.
func newImages(d *definition.Definition, old []*image) []*image {
	known := make(map[[2]string]*image)
	for _, i := range old {
		known[[2]string{i.Image, i.Platform}] = i
	}
	all := make([]*image, len(d.Images))
	for n, r := range d.Images {
		i := &image{state: keep.SetMissing, reason: notLooked}
		if was := known[[2]string{r.Image, r.Platform}]; was != nil {
			*i = *was
			i.busy = false
		}
		if i.PullRequest, i.policy = r, r.Policy; i.policy == "" {
			i.policy = d.Policy
		}
		all[n] = i
	}
	return all
}

// plan says when the next refresh begins, given that the last one was at lastRun.
func (s *set) plan(now time.Time) {
	if s.lastRun.After(now) {
		s.lastRun = now // the clock was set back
	}
	if s.due = s.When.Next(s.lastRun); !s.due.IsZero() && s.due.Before(now) {
		s.due = s.When.Open(now) // it was missed
	}
}

// inherit takes over what is known of the images and refreshes of an older one, nil for none.
func (s *set) inherit(old *set) {
	var was []*image
	if old != nil {
		was, s.lastRun = old.images, old.lastRun
	}
	s.images = newImages(s.Definition, was)
}

// begun notes that a job refreshes all images.
func (s *set) begun(job string, at time.Time) {
	s.job, s.running, s.lastRun, s.fault = job, true, at, ""
	s.plan(at)
	for _, i := range s.images {
		i.busy = true
	}
}

// stuck notes that a refresh could not begin. It is tried again.
func (s *set) stuck(err error, at time.Time) {
	s.fault, s.due = err.Error(), s.When.Open(at.Add(beginAgain))
}

// wanting returns the images that are missing, or whose last pull failed for now, and that may
// be pulled by now. There are none while a refresh goes on.
func (s *set) wanting(at time.Time) (all []*image) {
	for _, i := range s.images {
		wanted := i.state == keep.SetMissing && i.reason != notLooked || i.state == keep.SetFailed || i.retry
		if wanted && !s.running && !i.busy && !i.idle && !i.repairAt.After(at) {
			all = append(all, i)
		}
	}
	return all
}

// putOff notes a failure: the image is left alone for longer with each one in a row.
func (i *image) putOff(at time.Time) {
	i.failures++
	i.repairAt = at.Add(min(longestWait, coolDown<<min(i.failures-1, 10)))
}

// view returns the set in the form of the API, with its images. job is its refresh, if that
// goes on.
func (s *set) view(job *puller.Job) keep.Set {
	v := keep.Set{
		Name: s.name, Source: s.source, File: s.file,
		Schedule: s.Schedule, Timezone: s.Timezone, JitterSeconds: s.When.Jitter().Seconds(), Window: s.Window,
		Policy: s.Policy, Protect: *s.Protect, Priority: s.Priority,
		ChangedAt: s.changed, LastRun: s.lastRun, NextRun: utc(s.due), Job: s.job, Refreshes: s.running, Error: s.fault,
		Counts: make(map[keep.SetState]int), Skipped: s.Skipped,
	}
	for n, i := range s.images {
		one := keep.SetImage{
			Image: i.Image, Platform: i.Platform, State: i.state, Reason: i.reason, Digest: i.digest, CheckedAt: utc(i.checked), NextRun: utc(s.due), Job: i.job,
		}
		if (i.state != keep.SetPresent || i.retry) && !i.busy && i.repairAt.After(i.checked) && (s.due.IsZero() || i.repairAt.Before(s.due)) {
			one.NextRun = utc(i.repairAt)
		}
		switch {
		case job != nil && n < len(job.Images):
			follow(&one, job.Images[n])
		case i.busy:
			one.State = keep.SetPulling
		}
		v.Counts[one.State]++
		v.Images = append(v.Images, one)
	}
	return v
}

// follow has an image stand as the child of a refresh that goes on says.
func follow(one *keep.SetImage, child puller.ImageState) {
	one.Job = child.Job
	switch child.State {
	case puller.StateQueued:
		one.Reason = "its pull waits in the queue"
	case puller.StateActive:
		one.State, one.Reason = keep.SetPulling, ""
	case puller.StateSucceeded:
		one.State, one.Reason = keep.SetPresent, ""
	default:
		if one.State = keep.SetFailed; one.Digest != "" {
			one.State = keep.SetStale
		}
		if child.Error != nil {
			one.Reason = child.Error.Message
		}
	}
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
