package docker_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/pullertest"
)

const acting = "registry.test/actor:v1"

// newContainerEngine returns a scripted engine that has the actor's image, and
// refuses what real ones do.
func newContainerEngine(t *testing.T) (e *docker.Engine, scripted *pullertest.Engine, image string) {
	e, scripted = newEngine(t)
	i := pullertest.NewImage(acting, 1)
	scripted.Tag(acting, i)
	scripted.Program(i.ID, pullertest.Actor)
	return e, scripted, i.ID
}

func TestScriptedContainersConform(t *testing.T) {
	e, scripted, image := newContainerEngine(t)
	scripted.OnContainer(func(call, id string, _ <-chan struct{}) (int, string) {
		for _, c := range scripted.Containers() {
			switch r := c.Requested; {
			case call != "start" || c.ID != id:
			case len(r.Entrypoint) > 0 && r.Entrypoint[0] != "/app":
				return http.StatusBadRequest, `OCI runtime create failed: runc create failed: unable to start container process: exec: "` + r.Entrypoint[0] + `": stat ` + r.Entrypoint[0] + `: no such file or directory: unknown`
			case strings.HasPrefix(r.WorkingDir, "/app"):
				return http.StatusInternalServerError, `Cannot mkdir: /app is not a directory`
			case r.User == "somebody":
				return http.StatusInternalServerError, "unable to find user somebody: no matching entries in passwd file"
			case strings.HasSuffix(r.User, "something"):
				return http.StatusInternalServerError, "unable to find group something: no matching entries in group file"
			case r.HostConfig.NanoCpus > 1e12:
				return http.StatusBadRequest, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
			}
		}
		return 0, ""
	})
	pullertest.TestContainers(t, pullertest.ContainerFixture{Engine: e, Image: image, OOM: true})
}
