package puller

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// RunRequest asks to run an image's program in a container, once. All but Image
// may be left out.
type RunRequest struct {
	Image    string `json:"image"`
	Platform string `json:"platform,omitempty"` // os/arch[/variant]
	Policy   Policy `json:"policy,omitempty"`
	Strict   bool   `json:"strict,omitempty"` // as in a PullRequest

	Accelerate Accelerate `json:"accelerate,omitempty"` // as in a PullRequest

	Cmd        []string          `json:"cmd,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitzero"` // empty, it is none; nil, the image's
	Env        map[string]string `json:"env,omitempty"`
	Workdir    string            `json:"workdir,omitempty"`
	User       string            `json:"user,omitempty"`
	TTY        bool              `json:"tty,omitempty"`
	Network    string            `json:"network,omitempty"` // none or bridge
	Memory     Memory            `json:"memory,omitempty"`
	CPUs       CPUs              `json:"cpus,omitempty"`
	Pids       int64             `json:"pids,omitempty"`    // processes and threads
	Timeout    Duration          `json:"timeout,omitempty"` // for the whole job, from its submission

	Credentials    Credentials `json:"-"`
	IdempotencyKey string      `json:"-"`
	Caller         string      `json:"-"`
	Rules          Rules       `json:"-"` // the caller's own, beside those of the daemon
}

// Limits of what a run may ask for.
const (
	// maxArguments bounds cmd, entrypoint and env together, in bytes. Linux
	// takes 2 MiB of them (execve(2)).
	maxArguments = 256 << 10
	// maxArgument bounds one of them: MAX_ARG_STRLEN (execve(2)).
	maxArgument = 128<<10 - 1
	defaultPids = 1024
	maxPids     = 32768
	maxCPUs     = 1024
	minCPUs     = 0.01 // engines take no less, and near 0 it would be no limit
	// maxPath bounds workdir, in bytes, with what the engine puts before it on its
	// disk, and maxName each name in it (PATH_MAX and NAME_MAX of Linux).
	maxPath = 4096 - 1024
	maxName = 255
)

// WithDefaults checks the request and fills in what was left out. What a pull has too
// is checked as a pull's.
func (r RunRequest) WithDefaults(o Defaults) (RunRequest, PullRequest, error) {
	pull, named, err := PullRequest{
		Image: r.Image, Platform: r.Platform, Policy: r.Policy, Strict: r.Strict, Timeout: r.Timeout, Accelerate: r.Accelerate,
		Credentials: r.Credentials, IdempotencyKey: r.IdempotencyKey, Caller: r.Caller, Rules: r.Rules,
	}.WithDefaults(o)
	if err != nil {
		return r, pull, err
	}
	r.Image, r.Platform, r.Policy, r.Timeout = pull.Image, pull.Platform, pull.Policy, pull.Timeout
	if err := r.checkArguments(); err != nil {
		return r, pull, err
	}
	switch r.Network {
	case "":
		r.Network = "bridge"
	case "none", "bridge":
	default:
		return r, pull, Errorf(ErrInvalidRequest, "network: %q is not taken; use none or bridge", Clip(r.Network))
	}
	if r.Pids == 0 {
		r.Pids = defaultPids
	}
	switch {
	case r.Workdir != "" && !path.IsAbs(r.Workdir):
		err = Errorf(ErrInvalidRequest, "workdir: %q is not an absolute path", Clip(r.Workdir))
	case len(r.Workdir) > maxPath:
		err = Errorf(ErrInvalidRequest, "workdir: %d bytes long; it may have at most %d", len(r.Workdir), maxPath)
	case slices.ContainsFunc(strings.Split(r.Workdir, "/"), func(name string) bool { return len(name) > maxName }):
		err = Errorf(ErrInvalidRequest, "workdir: a name in it is longer than %d bytes", maxName)
	case r.Memory < 0:
		err = Errorf(ErrInvalidRequest, "memory: %d is below 0", r.Memory)
	case !r.CPUs.Valid():
		err = errCPUs(fmt.Sprint(float64(r.CPUs)))
	case r.Pids < 1 || r.Pids > maxPids:
		err = Errorf(ErrInvalidRequest, "pids: %d is not between 1 and %d", r.Pids, maxPids)
	default:
		err = o.Check(JobRun, named, pull)
	}
	return r, pull, err
}

func (r RunRequest) checkArguments() error {
	total := 0
	check := func(field, s string) error {
		total += len(s) + 1
		switch {
		case strings.Contains(s, "\x00"):
			return Errorf(ErrInvalidRequest, "%s: %q has a NUL byte, which no program takes", field, Clip(s))
		case len(s) > maxArgument:
			return Errorf(ErrInvalidRequest, "%s: one of %d bytes; one may have at most %d", field, len(s), maxArgument)
		case total > maxArguments:
			return Errorf(ErrInvalidRequest, "%s: with it, cmd, entrypoint and env have more than %d bytes", field, maxArguments)
		}
		return nil
	}
	for _, list := range []struct {
		field  string
		values []string
	}{
		{"cmd", r.Cmd}, {"entrypoint", r.Entrypoint}, {"env", r.Environment()}, {"user", []string{r.User}}, {"workdir", []string{r.Workdir}},
	} {
		for _, s := range list.values {
			if err := check(list.field, s); err != nil {
				return err
			}
		}
	}
	for name := range r.Env {
		if name == "" || strings.Contains(name, "=") {
			return Errorf(ErrInvalidRequest, "env: %q is no name; it may not be empty, nor hold =", Clip(name))
		}
	}
	return nil
}

// Environment returns env as programs get it, by name.
func (r RunRequest) Environment() []string {
	var env []string
	for name, value := range r.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// Labels that containers of runs carry. They find containers; they prove
// nothing, since an image may carry them too (see Run.owns).
const (
	LabelJob      = "towline.job"
	LabelInstance = "towline.instance"
)

// Owns reports whether a container was created for the run of a job. Its labels
// say so too, but a container may have them from its image, such as one that was
// committed from a run's container. Only while a run of an older Towline, of which
// no more is known, has not ended, they are enough.
func (r *Run) Owns(c ContainerState, job string, ended bool) bool {
	if r.Name == "" && r.Container == "" {
		return !ended && c.Labels[LabelJob] == job && c.Labels[LabelInstance] != ""
	}
	return r.Container != "" && c.ID == r.Container || r.Name != "" && slices.Contains(c.Names, r.Name)
}
