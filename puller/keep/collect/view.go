package collect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/usage"
	"github.com/towline/towline/puller/names"
)

// image is an image of the engine with what keeps it.
type image struct {
	engines.ImageSummary
	usage.Record
	containers   []keep.Container
	sets, leases []string
	kept         []keep.Kept // empty where it may be removed
}

// names returns the names by which it can be removed, in this order.
func (i *image) names() []string { return slices.Concat(i.Tags, i.Digests) }

// frees returns how many bytes would go with it.
func (i *image) frees() int64 {
	if i.Unique != nil {
		return *i.Unique
	}
	return i.Size
}

// view asks for all that decides which images may be removed. With shared, it asks for
// what they would free.
func (c *Collector) view(ctx context.Context, shared bool) ([]image, error) {
	// Jobs first: the lists know the last use of the image of a job that ends meanwhile.
	wanted, err := c.wanted()
	if err != nil {
		return nil, err
	}
	found, err := c.opts.Usage.Snapshot(ctx, shared)
	if err != nil {
		return nil, err
	}
	byImage := make(map[string][]engines.ContainerState)
	for _, container := range found.Containers {
		id := strings.TrimPrefix(container.ImageID, "sha256:") // older engines leave it out
		byImage[id] = append(byImage[id], container)
		if name := fullName(container.Image); name != "" {
			byImage[name] = append(byImage[name], container)
		}
	}
	now := time.Now()
	images := make([]image, len(found.Images))
	for n, summary := range found.Images {
		i := image{ImageSummary: summary, Record: found.Records[summary.ID]}
		i.addContainers(byImage)
		c.addProtections(&i)
		c.judge(&i, wanted, now)
		images[n] = i
	}
	return images, nil
}

// fullName returns the full form of the name that a container was created with, "" of an
// ID.
func fullName(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return names.EngineRef(reference.TagNameOnly(named).String())
}

// addContainers adds those that were created from the image, or by a name that it has now:
// when one is made anew, it is from this image.
func (i *image) addContainers(byImage map[string][]engines.ContainerState) {
	seen := make(map[string]bool)
	for _, key := range append(i.names(), strings.TrimPrefix(i.ID, "sha256:")) {
		for _, c := range byImage[key] {
			if seen[c.ID] {
				continue
			}
			seen[c.ID] = true
			one := keep.Container{ID: c.ID, Running: c.Running}
			if len(c.Names) > 0 {
				one.Name = c.Names[0]
			}
			i.containers = append(i.containers, one)
		}
	}
	slices.SortFunc(i.containers, func(a, b keep.Container) int { return strings.Compare(a.ID, b.ID) })
	for _, one := range i.containers {
		i.keep(keep.ReasonContainer, cmp.Or(one.Name, one.ID))
	}
}

// addProtections adds the sets and leases that have the image.
func (c *Collector) addProtections(i *image) {
	if c.opts.Protector == nil {
		return
	}
	for _, p := range c.opts.Protector.Protections(i.ID, i.names()) {
		reason, names := keep.ReasonSet, &i.sets
		if p.Kind == keep.ProtectionLease {
			reason, names = keep.ReasonLease, &i.leases
		}
		*names = append(*names, p.Name)
		if p.Protects {
			i.keep(reason, p.Name)
		}
	}
}

func (i *image) keep(reason keep.Reason, detail string) {
	i.kept = append(i.kept, keep.Kept{Reason: reason, Detail: detail})
}

// judge says what keeps an image, beside containers, sets and leases.
func (c *Collector) judge(i *image, wanted map[string]string, now time.Time) {
	for _, name := range append(i.names(), i.ID) {
		if job, ok := wanted[name]; ok {
			i.keep(keep.ReasonWanted, job)
		}
		if c.opts.Protect != nil {
			if pattern, ok := c.opts.Protect(name); ok {
				i.keep(keep.ReasonProtected, pattern)
			}
		}
	}
	if age := now.Sub(i.LastUsed()); age < c.opts.MinAge {
		i.keep(keep.ReasonYoung, fmt.Sprintf("it came or was used %s ago", max(age, 0).Round(time.Second)))
	}
	if c.opts.Collect != All {
		c.judgeOwner(i)
	}
	if i.Parent {
		i.keep(keep.ReasonParent, "")
	}
	for _, name := range i.names() {
		if named, err := reference.ParseNormalizedNamed(name); err != nil || named.String() != name || reference.IsNameOnly(named) {
			i.keep(keep.ReasonName, puller.Clip(name))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if until, ok := c.failed[i.ID]; ok {
		if now.Before(until) {
			i.keep(keep.ReasonFailed, fmt.Sprintf("it is tried again in %s", until.Sub(now).Round(time.Second)))
		} else {
			delete(c.failed, i.ID)
		}
	}
}

// judgeOwner keeps an image that Towline did not bring, or that has a name which Towline
// did not bring.
func (c *Collector) judgeOwner(i *image) {
	if len(i.Brought) == 0 {
		i.keep(keep.ReasonOwner, "")
		return
	}
	for _, tag := range i.Tags {
		if _, ours := slices.BinarySearch(i.Brought, tag); !ours {
			i.keep(keep.ReasonOwner, tag)
		}
	}
	for _, digest := range i.Digests { // a pull by a tag brings the digest in the same repository
		repository, _, _ := strings.Cut(digest, "@")
		if !slices.ContainsFunc(i.Brought, func(name string) bool { return names.ParseName(name).Repository == repository }) {
			i.keep(keep.ReasonOwner, digest)
		}
	}
}

// wanted returns the jobs that have not ended, by the names of their images.
func (c *Collector) wanted() (map[string]string, error) {
	wanted := make(map[string]string)
	service := c.service.Load()
	if service == nil {
		return wanted, nil
	}
	// Jobs that become active meanwhile are in the second list, or in both.
	for _, state := range []puller.State{puller.StateQueued, puller.StateActive} {
		f := puller.Filter{State: state, Limit: 1000}
		for {
			page, next, err := (*service).Jobs(f)
			if err != nil {
				return nil, err
			}
			for _, j := range page {
				if j.Image != "" {
					wanted[names.EngineRef(j.Image)] = j.ID
					wanted[j.Image] = j.ID
				}
			}
			if next == "" {
				break
			}
			f.Cursor = next
		}
	}
	return wanted, nil
}
