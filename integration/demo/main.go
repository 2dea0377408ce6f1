// Demo shows Towline's main job on a real engine and a real registry, both on
// this machine: an image is pulled with live progress, is there, and is pulled
// again by two clients that share one transfer.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

func main() {
	cache := flag.String("cache", ".cache", "the `directory` for all that the demo makes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *cache, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		stop()
		os.Exit(1)
	}
}

func demo(ctx context.Context, cache string, out io.Writer) (err error) {
	say := func(format string, args ...any) { fmt.Fprintf(out, "\n== "+format+"\n", args...) }
	logf := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}

	// The first time, both take a while.
	built := make(chan error, 1)
	var bin string
	go func() {
		var err error
		bin, err = lab.BuildTowline(ctx, cache)
		built <- err
	}()
	say("An engine")
	engine, err := lab.Find(ctx, cache, logf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	logf("%s", engine.Host)

	say("A registry on loopback, with an image of four layers and 16 MB made for the occasion")
	registry, err := lab.StartRegistry(lab.RegistryOptions{})
	if err != nil {
		return err
	}
	defer registry.Close()
	image, err := lab.RandomImage(int64(os.Getpid()), 4, 4<<20, "")
	if err != nil {
		return err
	}
	digest, err := registry.Push(ctx, "demo", "v1", image)
	if err != nil {
		return err
	}
	ref := registry.Ref("demo", "v1")
	logf("%s, %s", ref, digest)
	defer engine.RemoveImage(context.WithoutCancel(ctx), ref)

	say("Towline")
	if err := <-built; err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	daemon, err := lab.StartTowline(ctx, bin, dir, lab.TowlineOptions{EngineHost: engine.Host})
	if err != nil {
		return err
	}
	defer daemon.Stop()
	logf("towline serve: %s", daemon.Host)

	say("towline pull %s (the registry sends 2 MB/s a layer, so that there is something to see)", ref)
	registry.Throttle(2 << 20)
	cmd := exec.CommandContext(ctx, bin, "--host", daemon.Host, "pull", ref)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("towline pull: %w", err)
	}

	say("The image is there, with the digest that the registry has: the engine itself says so")
	digests, err := engine.Digests(ctx, ref)
	if err != nil {
		return err
	}
	if want := strings.TrimSuffix(ref, ":v1") + "@" + digest; !slices.Contains(digests, want) {
		return fmt.Errorf("the engine has %s, not %s", digests, want)
	}
	logf("%s", strings.Join(digests, "\n"))

	if err := falseSuccess(ctx, engine, bin, ref, say, logf); err != nil {
		return err
	}

	say("The image is removed, and two clients ask for it at once")
	if err := engine.RemoveImage(ctx, ref); err != nil {
		return err
	}
	registry.Throttle(0)
	registry.ResetCounts()
	if err := twoClients(ctx, daemon, registry, ref, logf); err != nil {
		return err
	}
	counts := registry.Counts()
	logf("the registry was asked for %d blobs, which are four layers and a configuration: one transfer", counts.BlobGets)
	if counts.BlobGets != 5 {
		return errors.New("that is more than one transfer")
	}

	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	say("Done. README.md has more; the commands are shown by the next line")
	logf("%s --help", bin)
	return nil
}

// twoClients pulls an image from two clients. The registry lets the layers'
// ends go only when both jobs are under way.
func twoClients(ctx context.Context, daemon *lab.Towline, registry *lab.Registry, ref string, logf func(string, ...any)) error {
	release := registry.Hold(1 << 20)
	defer release()
	var work sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	pulling := 0
	for n := range 2 {
		work.Go(func() {
			err := watch(ctx, daemon.Host, ref, func(e puller.Event) {
				mu.Lock()
				defer mu.Unlock()
				if line := describe(e); line != "" {
					logf("client %d: %s", n+1, line)
				}
				if e.Phase == puller.PhasePulling {
					if pulling++; pulling == 2 {
						release()
					}
				}
			})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("client %d: %w", n+1, err))
				release()
			}
		})
	}
	work.Wait()
	return errors.Join(failed...)
}

// watch asks for an image and follows the job to its end.
func watch(ctx context.Context, host, ref string, show func(puller.Event)) error {
	c, err := client.New(host, "")
	if err != nil {
		return err
	}
	defer c.Close()
	job, err := c.Submit(ctx, client.PullRequest{Image: ref})
	if err != nil {
		return err
	}
	for e, err := range c.Events(ctx, job.ID) {
		if err != nil {
			return err
		}
		show(e)
		if e.Result != nil && e.Result.Error != nil {
			return errors.New(e.Result.Error.Message)
		}
	}
	return nil
}

func describe(e puller.Event) string {
	switch e.Type {
	case "state":
		return strings.TrimSpace(fmt.Sprintf("job %s %s %s", e.Job, e.State, e.Phase))
	case "result":
		if r := e.Result.Result; r != nil {
			return fmt.Sprintf("%s, %s, %d bytes", r.Source, r.Digest, r.Downloaded)
		}
	}
	return ""
}
