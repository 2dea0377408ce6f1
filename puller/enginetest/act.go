package enginetest

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/puller/enginetest/actor"
)

// Actor is the Program of an image whose entrypoint is the actor.
func Actor(p *Process) int {
	return actor.Act(scene{p}.args()[1:], scene{p})
}

func (s scene) args() []string {
	entrypoint := s.Requested.Entrypoint
	if entrypoint == nil {
		entrypoint = []string{"/app"}
	}
	return append(slices.Clone(entrypoint), s.Requested.Cmd...)
}

// scene is the actor's world in a scripted engine.
type scene struct{ *Process }

func (s scene) Eat(bytes int) bool {
	limit := s.Requested.HostConfig.Memory
	if limit == 0 || int64(bytes) < limit {
		return true
	}
	s.OOM()
	return false
}

// Self is what a real container would see, as far as it was asked for.
func (s scene) Self() actor.Self {
	r := s.Requested
	self := actor.Self{Env: r.Env, Dir: path.Join("/", r.WorkingDir), NoNewPrivs: "0", CapEff: "00000000a80425fb", Interfaces: []string{"lo", "eth0"}}
	self.Args = s.args()
	user, group, _ := strings.Cut(r.User, ":")
	self.UID, _ = strconv.Atoi(user)
	self.GID, _ = strconv.Atoi(group)
	if slices.Contains(r.HostConfig.SecurityOpt, "no-new-privileges") {
		self.NoNewPrivs = "1"
	}
	if slices.Contains(r.HostConfig.CapDrop, "ALL") && len(r.HostConfig.CapAdd) == 0 && !r.HostConfig.Privileged {
		self.CapEff = "0000000000000000"
	}
	if r.HostConfig.NetworkMode == "none" {
		self.Interfaces = []string{"lo"}
	}
	return self
}
