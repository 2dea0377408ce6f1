package docker_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
)

const programImage = "registry.test/testprogram:v1"

// newContainerEngine returns a scripted engine that has the test program's image.
func newContainerEngine(t *testing.T) (e *docker.Engine, scripted *enginetest.Engine, image string) {
	e, scripted = newEngine(t)
	i := enginetest.NewImage(programImage, 1)
	scripted.Tag(programImage, i)
	scripted.Program(i.ID, enginetest.TestProgram)
	return e, scripted, i.ID
}

func TestScriptedContainers(t *testing.T) {
	t.Run("graph driver", func(t *testing.T) {
		t.Parallel()
		e, scripted, image := newContainerEngine(t)
		containersConform(t, e, scripted, image)
	})
	t.Run("containerd store", func(t *testing.T) {
		t.Parallel()
		e, scripted, image := newContainerEngine(t)
		scripted.UseContainerdStore()
		scripted.Program(enginetest.Digest(enginetest.NewImage(programImage, 1)), enginetest.TestProgram)
		found, err := e.Inspect(t.Context(), programImage, "")
		if err != nil || found.ID == image {
			t.Fatalf("%+v, %v", found, err)
		}
		containersConform(t, e, scripted, found.ID)
	})
}

func containersConform(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, image string) {
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
	enginetest.TestContainers(t, enginetest.ContainerFixture{Engine: e, Image: image, OOM: true})
}

// inBubble runs a test under synctest, with an engine whose only image runs a program.
func inBubble(t *testing.T, program enginetest.Program, test func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container)) {
	synctest.Test(t, func(t *testing.T) {
		e, scripted, image := newContainerEngine(t)
		scripted.Program(image, program)
		test(t, e, scripted, engines.Container{Image: image, Network: "none", Pids: 10})
	})
}

func create(t *testing.T, e *docker.Engine, c engines.Container) string {
	t.Helper()
	id, _, err := e.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// collect returns a callback that collects a container's output.
func collect(text *strings.Builder) func(puller.Output, []byte) {
	return func(_ puller.Output, p []byte) { text.Write(p) }
}

func TestCreateRequest(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		c.Memory, c.NanoCPUs, c.Platform, c.TTY = 64<<20, 5e8, "linux/amd64", true
		c.Labels = map[string]string{"a": "b"}
		scripted.Warn("swap is not what it was")
		id, warnings, err := e.Create(t.Context(), c)
		if err != nil || len(warnings) != 1 || warnings[0] != "swap is not what it was" {
			t.Fatal(id, warnings, err)
		}
		pids := int64(10)
		want := enginetest.ContainerRequest{
			Image: c.Image, Tty: true, AttachStdout: true, AttachStderr: true, StopSignal: "SIGTERM", Labels: c.Labels, Platform: "linux/amd64",
			HostConfig: enginetest.HostConfig{
				CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
				Memory: 64 << 20, MemorySwap: 64 << 20, NanoCpus: 5e8, PidsLimit: &pids, NetworkMode: "none",
			},
		}
		want.HostConfig.RestartPolicy.Name = "no"
		want.HostConfig.LogConfig.Type = "local"
		want.HostConfig.LogConfig.Config = map[string]string{"max-size": "20m", "max-file": "5"}
		seen := scripted.Containers()
		if len(seen) != 1 || seen[0].ID != id || seen[0].Status != "created" {
			t.Fatalf("the engine has %+v", seen)
		}
		if diff := cmp.Diff(want, seen[0].Requested, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the request differs (-want +got):\n%s", diff)
		}
	})
}

func TestCreateLogDriver(t *testing.T) {
	for want, have := range map[string][]string{
		"local":     {"awslogs", "json-file", "local"},
		"k8s-file":  {"k8s-file", "none", "passthrough", "journald"},
		"json-file": {"json-file", "syslog"},
		"":          {"journald"},
	} {
		inBubble(t, nil, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
			scripted.SetLogDrivers(have...)
			create(t, e, c)
			if got := scripted.Containers()[0].Requested.HostConfig.LogConfig.Type; got != want {
				t.Errorf("of %v it is %q, not %q", have, got, want)
			}
		})
	}
}

// The engine is killed while a container runs: Run returns an error, and Follow gets the
// whole output when the engine is back.
func TestRunEngineKilled(t *testing.T) {
	inBubble(t, func(p *enginetest.Process) int {
		io.WriteString(p.Stdout(), "before ")
		p.Wait(time.Minute)
		io.WriteString(p.Stdout(), "after")
		return 5
	}, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		id := create(t, e, c)
		time.AfterFunc(time.Second, scripted.Kill)
		var text strings.Builder
		_, err := e.Run(t.Context(), id, false, func() {}, collect(&text))
		if kind := puller.KindOf(err); kind != puller.ErrEngineUnavailable || text.String() != "before " {
			t.Errorf("the kind is %q, output %q: %v", kind, text.String(), err)
		}
		if _, err := e.Follow(t.Context(), id, false, collect(&text)); puller.KindOf(err) != puller.ErrEngineUnavailable {
			t.Error(err)
		}
		scripted.Revive()
		text.Reset()
		exit, err := e.Follow(t.Context(), id, false, collect(&text))
		if err != nil || exit != (engines.Exit{Code: 5}) || text.String() != "before after" {
			t.Errorf("exit %+v, %v, output %q", exit, err, text.String())
		}
	})
}

func TestFrozenEngineTimeout(t *testing.T) {
	inBubble(t, enginetest.Hang("up"), func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		id := create(t, e, c)
		scripted.Freeze()
		for name, call := range map[string]func() error{
			"create": func() error { _, _, err := e.Create(t.Context(), c); return err },
			"run": func() error {
				_, err := e.Run(t.Context(), id, false, func() {}, func(puller.Output, []byte) {})
				return err
			},
			"follow":     func() error { _, err := e.Follow(t.Context(), id, false, func(puller.Output, []byte) {}); return err },
			"stop":       func() error { return e.Stop(t.Context(), id, time.Minute) },
			"remove":     func() error { return e.Remove(t.Context(), id) },
			"containers": func() error { _, err := e.Containers(t.Context(), "a", "b"); return err },
		} {
			began := time.Now()
			err := call()
			if took := time.Since(began); puller.KindOf(err) != puller.ErrEngineUnavailable || took > 4*time.Minute || !strings.Contains(err.Error(), "has not answered") {
				t.Errorf("%s: after %s: %v", name, took, err)
			}
		}
	})
}

func TestRunContextEnds(t *testing.T) {
	for _, at := range []string{"attach", "start", "wait", "inspect", ""} {
		inBubble(t, func(p *enginetest.Process) int {
			if at == "inspect" {
				return 0
			}
			<-p.Killed()
			return 0
		}, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
			id := create(t, e, c)
			scripted.OnContainer(func(call, _ string, gone <-chan struct{}) (int, string) {
				if call == at {
					<-gone
				}
				return 0, ""
			})
			cause := puller.Errorf(puller.ErrOverloaded, "enough")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, cause)
			defer cancel()
			began := time.Now()
			_, err := e.Run(ctx, id, false, func() {}, func(puller.Output, []byte) {})
			if err != cause || time.Since(began) != 10*time.Second {
				t.Errorf("at %q, after %s: %v", at, time.Since(began), err)
			}
			synctest.Wait()
			if n := scripted.Counts().Attached; n != 0 {
				t.Errorf("at %q, %d connections are left", at, n)
			}
		})
	}
}

// A proxy cuts the stream. The rest comes from the log.
func TestRunReadsCutOutputFromLog(t *testing.T) {
	for name, tty := range map[string]bool{"without a terminal": false, "with one": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(p *enginetest.Process) int {
				for range 10 {
					io.WriteString(p.Stdout(), "0123456789")
					p.Wait(time.Second)
				}
				io.WriteString(p.Stderr(), "!")
				return 0
			}, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
				c.TTY = tty
				id := create(t, e, c)
				time.AfterFunc(4500*time.Millisecond, scripted.CutAttached)
				var text strings.Builder
				exit, err := e.Run(t.Context(), id, tty, func() {}, collect(&text))
				if err != nil || exit.Code != 0 || text.String() != strings.Repeat("0123456789", 10)+"!" {
					t.Errorf("exit %+v, %v, output %q", exit, err, text.String())
				}
			})
		})
	}
}

func TestRunClosesIdleStream(t *testing.T) {
	inBubble(t, enginetest.Print("all of it", "", 3), func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		scripted.HoldStreams()
		id := create(t, e, c)
		var text strings.Builder
		began := time.Now()
		exit, err := e.Run(t.Context(), id, false, func() {}, collect(&text))
		if took := time.Since(began); err != nil || exit.Code != 3 || text.String() != "all of it" || took != 5*time.Second {
			t.Errorf("after %s exit %+v, %v, output %q", took, exit, err, text.String())
		}
	})
}

func TestRunLateOOM(t *testing.T) {
	inBubble(t, func(p *enginetest.Process) int {
		time.AfterFunc(100*time.Millisecond, func() { p.OOM() })
		return 137
	}, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		exit, err := e.Run(t.Context(), create(t, e, c), false, func() {}, func(puller.Output, []byte) {})
		if err != nil || exit != (engines.Exit{Code: 137, OOMKilled: true}) {
			t.Errorf("exit %+v, %v", exit, err)
		}
	})
}

// Run makes one call of each at a time, and none after its return. The time in each does not
// count as idle.
func TestRunSlowReader(t *testing.T) {
	inBubble(t, enginetest.Print(strings.Repeat("x", 100<<10), "y", 0), func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		calls := make(chan struct{}, 1)
		n := 0
		_, err := e.Run(t.Context(), create(t, e, c), false, func() {}, func(_ puller.Output, p []byte) {
			calls <- struct{}{}
			<-time.After(time.Minute)
			n += len(p)
			<-calls
		})
		if err != nil || n != 100<<10+1 {
			t.Errorf("got %d bytes: %v", n, err)
		}
	})
}

func TestRemoveMissing(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		for _, answer := range []struct {
			status  int
			message string
			kind    puller.ErrorKind
		}{
			{http.StatusNotFound, "No such container: x", ""},
			{http.StatusConflict, "removal of container x is already in progress", ""},
			{http.StatusConflict, "conflict: unable to remove it", puller.ErrConflict},
			{http.StatusInternalServerError, "driver \"overlay2\" failed to remove root filesystem: device or resource busy", puller.ErrInternal},
		} {
			scripted.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) { return answer.status, answer.message })
			if err := e.Remove(t.Context(), "x"); puller.KindOf(err) != answer.kind {
				t.Errorf("%s: %v", answer.message, err)
			}
		}
	})
}

var long = strings.Repeat("x", 300)

// shown are the messages that differ from the engine's: without paths on its disk, and with
// advice.
var shown = map[string]string{
	`lstat /var/lib/docker/overlay2/16ed9d1b97a1/merged/app/x: not a directory`:                                                               `lstat /app/x: not a directory`,
	`lstat /var/lib/docker/overlay2/352e3742e822c29c932768c075f1660c9fb4a4efcc7ed17bf424537436377dd9/merged/` + long + `: file name too long`: `lstat /` + long + `: file name too long`,
	`evalSymlinksInScope: too many links in /var/lib/docker/vfs/dir/352e3742e822c29c932768c075f1660c9fb4a4efcc7ed17bf424537436377dd9/x/x/x`:   `evalSymlinksInScope: too many links in /x/x/x`,
	`mkdir /var/lib/docker/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/12/fs/` + long + `: file name too long`:         `mkdir /` + long + `: file name too long`,
	`error creating overlay mount to /var/lib/docker/overlay2/352e3742e822-init/merged: no space left on device`:                              `error creating overlay mount to : no space left on device`,
	`network bridge not found`: noBridge("network bridge not found"),
	`failed to create endpoint jolly_x on network bridge: adding interface veth8cd2f9d to bridge docker0 failed: could not find bridge docker0: route ip+net: no such network interface`: noBridge(`failed to create endpoint jolly_x on network bridge: adding interface veth8cd2f9d to bridge docker0 failed: could not find bridge docker0: route ip+net: no such network interface`),
	`No command specified`: `No command specified (the image names no program; set cmd or entrypoint)`,
	`endpoint with name jolly_x already exists in network bridge`: `endpoint with name jolly_x already exists in network bridge (if it stays so, ask with network: none, or mend the engine's bridge)`,
}

func noBridge(message string) string {
	return message + " (this engine has no bridge network that works; ask with network: none, or mend its bridge, for example by a restart of the engine)"
}

// Engines' messages about containers. The first four rows are from 20.10.
var containerMessages = []struct {
	kind     puller.ErrorKind
	status   int
	messages []string
}{
	{puller.ErrInvalidRequest, http.StatusBadRequest, []string{
		`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "no space left on device": executable file not found in $PATH: unknown`,
		`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/unauthorized": stat /unauthorized: no such file or directory: unknown`,
		`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/proc": permission denied: unknown`,
		`Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available`,
		`Minimum memory limit allowed is 6MB`,
		`No command specified`,
	}},
	{puller.ErrInvalidRequest, http.StatusInternalServerError, []string{
		`unable to find user somebody: no matching entries in passwd file`,
		`unable to find group something: no matching entries in group file`,
		`Cannot mkdir: /app is not a directory`,
		`lstat /var/lib/docker/overlay2/16ed9d1b97a1/merged/app/x: not a directory`,
		`OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "/app": permission denied: unknown`,
		`OCI runtime create failed: runc create failed: unable to start container process: chdir to cwd ("/root") set in config.json failed: permission denied: unknown`,
		`OCI runtime create failed: runc create failed: unable to start container process: container init was OOM-killed (memory limit too low?): unknown`,
		`exec: "x": executable file not found in $PATH: OCI runtime attempted to invoke a command that was not found`,
		`network bridge not found`,
		`failed to create endpoint jolly_x on network bridge: adding interface veth8cd2f9d to bridge docker0 failed: could not find bridge docker0: route ip+net: no such network interface`,
		`lstat /var/lib/docker/overlay2/352e3742e822c29c932768c075f1660c9fb4a4efcc7ed17bf424537436377dd9/merged/` + long + `: file name too long`,
		`evalSymlinksInScope: too many links in /var/lib/docker/vfs/dir/352e3742e822c29c932768c075f1660c9fb4a4efcc7ed17bf424537436377dd9/x/x/x`,
		`mkdir /var/lib/docker/containerd/daemon/io.containerd.snapshotter.v1.overlayfs/snapshots/12/fs/` + long + `: file name too long`,
	}},
	{puller.ErrNoSpace, http.StatusInternalServerError, []string{
		`error creating overlay mount to /var/lib/docker/overlay2/352e3742e822-init/merged: no space left on device`,
		`mkdir /var/lib/docker/overlay2/x: no space left on device`,
	}},
	{puller.ErrPlatformMismatch, http.StatusNotFound, []string{
		`image with reference sha256:404a was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64`,
	}},
	{puller.ErrNotFound, http.StatusNotFound, []string{`No such image: sha256:404a`, `No such container: 404a`}},
	{puller.ErrEngineUnavailable, http.StatusInternalServerError, []string{
		`connection error: desc = "transport: Error while dialing dial unix:///run/containerd/containerd.sock: connect: connection refused"`,
		`context canceled`,
		`failed to create task for container: task 352e3742e822c29c932768c075f1660c9fb4a4efcc7ed17bf424537436377dd9: already exists: unknown`,
		`OCI runtime create failed: runc create failed: container with given ID already exists: unknown`,
		`OCI runtime create failed: container ID already exists`,
		`containerd: id already in use: unknown`,
		`endpoint with name jolly_x already exists in network bridge`,
		`ttrpc: closed: unknown`,
		`failed to start shim: fork/exec /usr/bin/containerd-shim-runc-v2: resource temporarily unavailable: unknown`,
		`connection error: desc = "transport: error while dialing: dial unix /run/containerd/containerd.sock: connect: no such file or directory"`,
	}},
	{puller.ErrInternal, http.StatusConflict, []string{ // Podman 4.3
		`preparing container 404a for attach: runc: runc create failed: unable to start container process: error setting rlimit type 7: operation not permitted: OCI permission denied`,
	}},
	{puller.ErrInternal, http.StatusInternalServerError, []string{
		`failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting "proc" to rootfs at "/proc": permission denied: unknown`,
		`something unknown about unauthorized and sha256:404`,
	}},
}

func TestClassifyContainerMessages(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
		id := create(t, e, c)
		for _, row := range containerMessages {
			for _, message := range row.messages {
				for _, at := range []string{"create", "start"} {
					scripted.OnContainer(func(call, _ string, _ <-chan struct{}) (int, string) {
						if call == at {
							return row.status, message
						}
						return 0, ""
					})
					_, _, err := e.Create(t.Context(), c)
					if at == "start" {
						_, err = e.Run(t.Context(), id, false, func() { t.Error("it was said to have started") }, func(puller.Output, []byte) {})
					}
					if got := puller.KindOf(err); got != row.kind {
						t.Errorf("at %s, the kind is %q, not %q: %s", at, got, row.kind, message)
					}
					want := message
					if shown[message] != "" {
						want = shown[message]
					}
					if err == nil || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "Error response from daemon") {
						t.Errorf("the message %q became %v", message, err)
					}
				}
			}
		}
		synctest.Wait()
		if n := scripted.Counts().Attached; n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}
