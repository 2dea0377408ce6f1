package requests

import (
	"path"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// Limits of what a run may ask for.
const (
	// maxArguments bounds cmd, entrypoint and env together, in bytes. Linux
	// takes 2 MiB of them (execve(2)).
	maxArguments = 256 << 10
	// maxArgument bounds one of them: MAX_ARG_STRLEN (execve(2)).
	maxArgument = 128<<10 - 1
	defaultPids = 1024
	maxPids     = 32768
	// maxPath bounds workdir, in bytes, with what the engine puts before it on its
	// disk, and maxName each name in it (PATH_MAX and NAME_MAX of Linux).
	maxPath = 4096 - 1024
	maxName = 255
)

// Run checks a request and fills in what was left out. What a pull has too
// is checked as a pull's.
func (d Defaults) Run(r puller.RunRequest) (puller.RunRequest, puller.PullRequest, error) {
	pull := puller.PullRequest{
		Image: r.Image, Platform: r.Platform, Policy: r.Policy, Strict: r.Strict, Timeout: r.Timeout, Accelerate: r.Accelerate,
		Credentials: r.Credentials, IdempotencyKey: r.IdempotencyKey, TraceParent: r.TraceParent,
	}
	pull.Caller, pull.Rules = r.Caller, r.Rules
	pull, named, err := d.Pull(pull)
	if err != nil {
		return r, pull, err
	}
	r.Image, r.Platform, r.Policy, r.Timeout = pull.Image, pull.Platform, pull.Policy, pull.Timeout
	if err := checkArguments(r); err != nil {
		return r, pull, err
	}
	switch r.Network {
	case "":
		r.Network = "bridge"
	case "none", "bridge":
	default:
		return r, pull, puller.Errorf(puller.ErrInvalidRequest, "network: %q is not taken; use none or bridge", puller.Clip(r.Network))
	}
	if r.Pids == 0 {
		r.Pids = defaultPids
	}
	switch {
	case r.Workdir != "" && !path.IsAbs(r.Workdir):
		err = puller.Errorf(puller.ErrInvalidRequest, "workdir: %q is not an absolute path", puller.Clip(r.Workdir))
	case len(r.Workdir) > maxPath:
		err = puller.Errorf(puller.ErrInvalidRequest, "workdir: %d bytes long; it may have at most %d", len(r.Workdir), maxPath)
	case slices.ContainsFunc(strings.Split(r.Workdir, "/"), func(name string) bool { return len(name) > maxName }):
		err = puller.Errorf(puller.ErrInvalidRequest, "workdir: a name in it is longer than %d bytes", maxName)
	case r.Memory < 0:
		err = puller.Errorf(puller.ErrInvalidRequest, "memory: %d is below 0", r.Memory)
	case r.CPUs.Check() != nil:
		err = r.CPUs.Check()
	case r.Pids < 1 || r.Pids > maxPids:
		err = puller.Errorf(puller.ErrInvalidRequest, "pids: %d is not between 1 and %d", r.Pids, maxPids)
	default:
		err = d.Check(puller.JobRun, named, pull)
	}
	return r, pull, err
}

func checkArguments(r puller.RunRequest) error {
	total := 0
	check := func(field, s string) error {
		total += len(s) + 1
		switch {
		case strings.Contains(s, "\x00"):
			return puller.Errorf(puller.ErrInvalidRequest, "%s: %q has a NUL byte, which no program takes", field, puller.Clip(s))
		case len(s) > maxArgument:
			return puller.Errorf(puller.ErrInvalidRequest, "%s: one of %d bytes; one may have at most %d", field, len(s), maxArgument)
		case total > maxArguments:
			return puller.Errorf(puller.ErrInvalidRequest, "%s: with it, cmd, entrypoint and env have more than %d bytes", field, maxArguments)
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
			return puller.Errorf(puller.ErrInvalidRequest, "env: %q is no name; it may not be empty, nor hold =", puller.Clip(name))
		}
	}
	return nil
}
