package enginetest

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/puller/enginetest/testprogram"
)

// TestProgram is the Program of an image whose entrypoint is the test program.
func TestProgram(p *Process) int {
	e := environment{p}
	return testprogram.Run(e.args()[1:], e)
}

// environment is a testprogram.Environment in a scripted engine.
type environment struct{ *Process }

func (e environment) args() []string {
	entrypoint := e.Requested.Entrypoint
	if entrypoint == nil {
		entrypoint = []string{"/app"}
	}
	return append(slices.Clone(entrypoint), e.Requested.Cmd...)
}

func (e environment) Allocate(bytes int) bool {
	limit := e.Requested.HostConfig.Memory
	if limit == 0 || int64(bytes) < limit {
		return true
	}
	e.OOM()
	return false
}

// Self is what a real container would see, as far as the request says it.
func (e environment) Self() testprogram.Self {
	r := e.Requested
	self := testprogram.Self{Env: r.Env, Dir: path.Join("/", r.WorkingDir), NoNewPrivs: "0", CapEff: "00000000a80425fb", Interfaces: []string{"lo", "eth0"}}
	self.Args = e.args()
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
