package puller

import "slices"

// RunRequest asks to run an image's program in a container, once. All but Image
// may be left out.
type RunRequest struct {
	Image    string `json:"image"`
	Platform string `json:"platform,omitempty"` // os/arch[/variant]
	Policy   Policy `json:"policy,omitempty"`
	Strict   bool   `json:"strict,omitempty"` // as in a PullRequest

	Accelerate Accelerate `json:"accelerate,omitempty"` // as in a PullRequest
	Lease      string     `json:"lease,omitempty"`      // as in a PullRequest

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
	TraceParent    string      `json:"-"` // as in a PullRequest

	origin `json:"-"`
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
