package compose

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/platforms"
)

// project is the active services of a Compose project, in the order of their images in
// the request.
type project struct {
	services []types.ServiceConfig
	// at writes a path such as services.web.image before an error, and its line if it
	// is known.
	at func(path string, err error) error
	// resolve returns a text with its variables expanded, and the variables that had no
	// value.
	resolve func(text string) (value string, unset []string, err error)
	// strict refuses an image that has a variable without a value, even if the expanded
	// text is a valid reference. docker compose prints a warning. Nobody sees a warning
	// of the daemon, which would pull a wrong image.
	strict bool
	// pulls has the services that docker compose pull pulls: also those that can be built
	// and name an image, and none whose pull_policy is never.
	pulls bool
	// ignoreBuildable leaves out all services that can be built.
	ignoreBuildable bool

	buildable map[string]string             // services that can be built, by the full name of their image that is pulled
	requests  map[string]puller.PullRequest // by the service whose image it is

	faults Faults
	list   puller.Images
	seen   map[puller.PullRequest]bool
	built  map[string]string // the service that builds an image, by its full name
}

// request returns the prewarm request of the project. An image that several services use
// with the same platform and policy is in it once. The error lists all faults.
func (p *project) request() (r puller.PrewarmRequest, err error) {
	p.seen, p.built = map[puller.PullRequest]bool{}, map[string]string{}
	p.buildable, p.requests = map[string]string{}, map[string]puller.PullRequest{}
	for i, s := range p.services {
		if s.Build == nil || s.Image == "" {
			continue
		}
		// A service may use the image that a later service builds.
		full, err := p.reference("services."+s.Name+".image", s.Image)
		switch {
		case err == nil:
			if p.services[i].Image = full; p.isBuilt(s) {
				p.built[full] = s.Name
			}
		case p.isBuilt(s): // of the others, add finds the fault
			p.faults.add(err)
		}
	}
	for _, s := range p.services {
		if reason := p.add(s); reason != "" {
			r.Skipped = append(r.Skipped, puller.Skipped{Service: s.Name, Reason: reason})
		}
	}
	if err := p.faults.err(); err != nil {
		return puller.PrewarmRequest{}, err
	}
	r.Images = p.list
	if len(r.Images) == 0 && len(r.Skipped) == 0 {
		return r, invalid("services: none is active; name the profiles to take")
	}
	return r, nil
}

// isBuilt reports whether a service's image comes from its build section, and
// not from a registry.
func (p *project) isBuilt(s types.ServiceConfig) bool {
	switch s.PullPolicy {
	case types.PullPolicyBuild:
		return true
	case "":
		return s.Build != nil && (!p.pulls || p.ignoreBuildable)
	case types.PullPolicyNever:
		return s.Build != nil
	}
	return s.Build != nil && p.ignoreBuildable
}

// add adds the images of a service, or returns why the service is skipped.
func (p *project) add(s types.ServiceConfig) (reason string) {
	path := "services." + s.Name
	switch {
	case s.Provider != nil:
		reason = fmt.Sprintf("the provider %s runs it; it has no image", clip(s.Provider.Type))
	case s.Image == "" && s.Build != nil:
		reason = "it is built, and names no image"
	case s.Image == "":
		p.faults.add(p.at(path, invalid("neither image nor build; give it one")))
	case s.PullPolicy == types.PullPolicyBuild:
		reason = "its pull_policy is build"
	case p.pulls && s.PullPolicy == types.PullPolicyNever:
		reason = "its pull_policy is never"
	case p.isBuilt(s) && p.ignoreBuildable:
		reason = "it can be built"
	case p.isBuilt(s):
		reason = "it is built; with a pull_policy such as missing it would be pulled"
	default:
		reason = p.image(path, ".image", s.ContainerSpec, s.Name)
		if one, ok := p.requests[s.Name]; ok && s.Build != nil {
			p.buildable[one.Image] = s.Name
		}
	}
	for _, hook := range s.PreStart {
		if hook.Image == "" || hook.Image == s.Image {
			continue // the hook uses the image of the service
		}
		if hook.Platform == "" {
			hook.Platform = s.Platform
		}
		p.image(path+".pre_start", "", hook.ContainerSpec, "")
	}
	for _, volume := range s.Volumes {
		if volume.Type != types.VolumeTypeImage || volume.Source == "" {
			continue
		}
		p.image(path+".volumes", "", types.ContainerSpec{Image: volume.Source}, "")
	}
	return reason
}

// image adds one image. If a service builds the image, it returns that reason instead.
// path is the path of the container, field that of its image in it. service is the one
// whose own image it is, "" for none.
func (p *project) image(path, field string, c types.ContainerSpec, service string) (reason string) {
	known := len(p.faults)
	var one puller.PullRequest
	var err error
	one.Image, err = p.reference(path+field, c.Image)
	p.faults.add(err)
	if by, ok := p.built[one.Image]; ok && err == nil {
		return fmt.Sprintf("the service %s builds its image", clip(by))
	}
	if one.Platform, err = p.platform(c.Platform); err != nil {
		p.faults.add(p.at(path+".platform", err))
	}
	if one.Policy, err = policy(c.PullPolicy); err != nil {
		p.faults.add(p.at(path+".pull_policy", err))
	}
	if len(p.faults) == known && service != "" {
		p.requests[service] = one
	}
	if len(p.faults) == known && !p.seen[one] {
		p.seen[one] = true
		p.list = append(p.list, one)
	}
	return ""
}

// platform returns a platform in canonical form. An OS or an architecture alone stays as
// it is: the engine completes it.
func (p *project) platform(text string) (string, error) {
	value, _, err := p.resolve(text)
	if err != nil || value == "" {
		return "", err
	}
	whole, err := platforms.Parse(value, "linux/amd64")
	switch {
	case err != nil:
		return "", invalid("%s", strings.TrimPrefix(err.Error(), "platform: "))
	case strings.Contains(value, "/"):
		return whole, nil
	}
	return value, nil
}

// policy returns the pull policy of a pull_policy, "" for none.
func policy(name string) (puller.Policy, error) {
	switch name {
	case "", types.PullPolicyBuild: // services that are built are skipped before
		return "", nil
	case types.PullPolicyAlways:
		return puller.PolicyAlways, nil
	case types.PullPolicyNever:
		return puller.PolicyNever, nil
	case types.PullPolicyMissing, types.PullPolicyIfNotPresent:
		return puller.PolicyMissing, nil
	case types.PullPolicyRefresh, "daily", "weekly":
		return puller.PolicyNewer, nil
	}
	if strings.HasPrefix(name, "every_") {
		return puller.PolicyNewer, nil
	}
	return "", invalid("%q is not known; use always, never, missing, build, refresh, daily, weekly or every_ and a time", clip(name))
}

// reference returns the full form of an image.
func (p *project) reference(path, image string) (string, error) {
	value, unset, err := p.resolve(image)
	if err != nil {
		return "", p.at(path, err)
	}
	full, _, err := puller.ParseImage(value)
	switch {
	case len(unset) > 0 && (p.strict || err != nil):
		return "", p.at(path, noValue(unset))
	case err == nil:
		return full, nil
	}
	return "", p.at(path, invalid("%s", strings.TrimPrefix(err.Error(), "image: ")))
}
