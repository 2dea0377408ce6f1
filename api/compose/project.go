package compose

import (
	"fmt"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/towline/towline/puller"
)

// project is the active services of a Compose project, in the order to ask for
// them.
type project struct {
	services []types.ServiceConfig
	// at puts a path such as services.web.image before an error, and its line
	// where that is known.
	at func(path string, err error) error
	// resolve returns a text with its variables put in, and the variables that
	// were put in without having a value.
	resolve func(text string) (value string, unset []string, err error)
	// strict refuses an image that has a variable without a value, also where
	// it comes to a good reference without it. docker compose warns, and the
	// one who asks sees it; a daemon would pull another image than was meant.
	strict bool

	list  puller.Images
	seen  map[puller.PullRequest]bool
	built map[string]string // the service that builds an image, by its full name
}

// request returns what a prewarm of the project asks for. An image that several
// services want in one way is asked for once.
func (p *project) request() (r puller.PrewarmRequest, err error) {
	p.seen, p.built = map[puller.PullRequest]bool{}, map[string]string{}
	for i, s := range p.services {
		if s.Build == nil || s.Image == "" {
			continue
		}
		// Services that use the image of one that is built come before it, too.
		full, err := p.reference("services."+s.Name+".image", s.Image)
		if err != nil {
			return r, err
		}
		if p.services[i].Image = full; isBuilt(s) {
			p.built[full] = s.Name
		}
	}
	for _, s := range p.services {
		reason, err := p.add(s)
		if err != nil {
			return r, err
		}
		if reason != "" {
			r.Skipped = append(r.Skipped, puller.Skipped{Service: s.Name, Reason: reason})
		}
	}
	r.Images = p.list
	if len(r.Images) == 0 && len(r.Skipped) == 0 {
		return r, invalid("services: none is active; name the profiles to take")
	}
	return r, nil
}

// isBuilt reports whether a service's image comes from its build section, and
// not from a registry.
func isBuilt(s types.ServiceConfig) bool {
	switch s.PullPolicy {
	case types.PullPolicyBuild:
		return true
	case "", types.PullPolicyNever:
		return s.Build != nil
	}
	return false
}

// add asks for the images of a service, or says why the service is skipped.
func (p *project) add(s types.ServiceConfig) (reason string, err error) {
	path := "services." + s.Name
	switch {
	case s.Provider != nil:
		reason = fmt.Sprintf("the provider %s runs it; it has no image", clip(s.Provider.Type))
	case s.Image == "" && s.Build != nil:
		reason = "it is built, and names no image"
	case s.Image == "":
		return "", p.at(path, invalid("neither image nor build; give it one"))
	case s.PullPolicy == types.PullPolicyBuild:
		reason = "its pull_policy is build"
	case isBuilt(s):
		reason = "it is built; with a pull_policy such as missing it would be pulled"
	default:
		if reason, err = p.image(path, ".image", s.ContainerSpec); err != nil {
			return "", err
		}
	}
	for _, hook := range s.PreStart {
		if hook.Image == "" || hook.Image == s.Image {
			continue // it is the service's
		}
		if hook.Platform == "" {
			hook.Platform = s.Platform
		}
		if _, err := p.image(path+".pre_start", "", hook.ContainerSpec); err != nil {
			return "", err
		}
	}
	for _, volume := range s.Volumes {
		if volume.Type != types.VolumeTypeImage || volume.Source == "" {
			continue
		}
		if _, err := p.image(path+".volumes", "", types.ContainerSpec{Image: volume.Source}); err != nil {
			return "", err
		}
	}
	return reason, nil
}

// image asks for one image, unless a service builds it. The container is at
// path, and its image at field in it.
func (p *project) image(path, field string, c types.ContainerSpec) (reason string, err error) {
	full, err := p.reference(path+field, c.Image)
	if err != nil {
		return "", err
	}
	if by, ok := p.built[full]; ok {
		return fmt.Sprintf("the service %s builds its image", clip(by)), nil
	}
	one := puller.PullRequest{Image: full}
	if one.Platform, _, err = p.resolve(c.Platform); err != nil {
		return "", p.at(path+".platform", err)
	}
	if one.Policy, err = policy(c.PullPolicy); err != nil {
		return "", p.at(path+".pull_policy", err)
	}
	if !p.seen[one] {
		p.seen[one] = true
		p.list = append(p.list, one)
	}
	return "", nil
}

// policy returns Towline's word for a pull_policy, "" for none.
func policy(name string) (puller.Policy, error) {
	switch name {
	case "", types.PullPolicyBuild: // what is built is skipped before it is asked for
		return "", nil
	case types.PullPolicyAlways:
		return puller.Always, nil
	case types.PullPolicyNever:
		return puller.Never, nil
	case types.PullPolicyMissing, types.PullPolicyIfNotPresent:
		return puller.Missing, nil
	case types.PullPolicyRefresh, "daily", "weekly":
		return puller.Newer, nil
	}
	if strings.HasPrefix(name, "every_") {
		return puller.Newer, nil
	}
	return "", invalid("%q is not known; use always, never, missing, build, refresh, daily, weekly or every_ and a time", clip(name))
}

// reference returns the full form of an image.
func (p *project) reference(path, image string) (string, error) {
	value, unset, err := p.resolve(image)
	if err != nil {
		return "", p.at(path, err)
	}
	named, err := puller.ParseReference(value)
	switch {
	case len(unset) > 0 && (p.strict || err != nil):
		return "", p.at(path, noValue(unset))
	case err == nil:
		return named.String(), nil
	}
	return "", p.at(path, invalid("%s", strings.TrimPrefix(err.Error(), "image: ")))
}
