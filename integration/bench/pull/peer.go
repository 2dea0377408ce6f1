package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// A peer brings images to an engine.
type peer struct {
	name   string
	engine func(*site) *lab.Engine
	// prepare gets it ready, which is not measured. It may be nil.
	prepare func(ctx context.Context, s *site, r *round) error
	pull    func(ctx context.Context, s *site, r *round) error
}

func stock(s *site) *lab.Engine { return s.engine }
func wide(s *site) *lab.Engine  { return s.wide }

// peers are all that there are. The first one is what the others are compared to.
var peers = []peer{
	{"docker pull", stock, nil, dockerPull},
	{"docker pull with 16 downloads", wide, nil, dockerPull},
	{"docker compose pull", stock, writeCompose, composePull},
	{"towline plain", stock, startTowline, prewarm(puller.AccelerateOff)},
	{"towline", stock, startTowline, prewarm(puller.AccelerateAuto)},
}

func docker(ctx context.Context, engine *lab.Engine, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+engine.Host)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", program, args, err, out)
	}
	return nil
}

// dockerPull pulls all images at once.
func dockerPull(ctx context.Context, _ *site, r *round) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, ref := range r.refs {
		group.Go(func() error { return docker(ctx, r.engine, "docker", "pull", "-q", ref) })
	}
	return group.Wait()
}

func writeCompose(_ context.Context, _ *site, r *round) error {
	var b strings.Builder
	b.WriteString("services:\n")
	for n, ref := range r.refs {
		fmt.Fprintf(&b, "  s%d: {image: %q}\n", n, ref)
	}
	return os.WriteFile(filepath.Join(r.dir, "compose.yaml"), []byte(b.String()), 0o600)
}

func composePull(ctx context.Context, s *site, r *round) error {
	return docker(ctx, r.engine, s.compose, "-f", filepath.Join(r.dir, "compose.yaml"), "pull", "-q")
}

// settled is how long a daemon has to find out how it can accelerate.
const settled = 30 * time.Second

// startTowline starts a daemon that has nothing in its cache, and waits until it
// knows its engine.
func startTowline(ctx context.Context, s *site, r *round) (err error) {
	config := strings.ReplaceAll(s.config, `\n`, "\n") + "\n"
	if !strings.Contains(config, "mirror:") {
		config += "mirror: {mode: auto, listen: \"127.0.0.1:0\"}\n"
	}
	r.towline, err = lab.StartTowline(ctx, s.bin, r.dir, lab.TowlineOptions{
		EngineHost: r.engine.Host, Config: config,
		Env: []string{"TOWLINE_REGISTRIES_ALLOW_PRIVATE=127.0.0.0/8," + address},
	})
	if err != nil {
		return err
	}
	c, err := client.New(r.towline.Host, "")
	if err != nil {
		return err
	}
	defer c.Close()
	if s.events != "" {
		if err := s.keepEvents(ctx, r); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, settled)
	defer cancel()
	return lab.Poll(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		e, err := c.Engine(ctx)
		if err == nil && e.Accelerator != nil && e.Accelerator.Way == puller.WayNone {
			err = fmt.Errorf("pulls are not accelerated: %s", e.Accelerator.Reason)
		}
		return err
	})
}

// keepEvents writes the events of all jobs to a file, until the daemon ends.
func (s *site) keepEvents(ctx context.Context, r *round) error {
	f, err := os.CreateTemp(s.events, time.Now().Format("150405-*.ndjson"))
	if err != nil {
		return err
	}
	resp, err := r.towline.Do(ctx, http.MethodGet, "/v1/events", nil, nil)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	go func() {
		defer f.Close()
		defer resp.Body.Close()
		io.Copy(f, resp.Body)
	}()
	return nil
}

// prewarm asks for all images in one request.
func prewarm(accelerate puller.Accelerate) func(context.Context, *site, *round) error {
	return func(ctx context.Context, s *site, r *round) error {
		request := client.PrewarmRequest{Accelerate: accelerate}
		for _, ref := range r.refs {
			request.Images = append(request.Images, client.PullRequest{Image: ref})
		}
		body, err := json.Marshal(request)
		if err != nil {
			return err
		}
		header := http.Header{"Content-Type": {"application/json"}}
		resp, err := r.towline.Do(ctx, http.MethodPost, "/v1/prewarms?wait=true", header, strings.NewReader(string(body)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, answer)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(answer, &r.job)
	}
}

// ways says how a prewarm's images came, as their results tell it.
func ways(ctx context.Context, r *round) (string, error) {
	c, err := client.New(r.towline.Host, "")
	if err != nil {
		return "", err
	}
	defer c.Close()
	var told []string
	times := map[string]int{}
	for _, id := range r.job.Children {
		job, err := c.Job(ctx, id)
		if err != nil {
			return "", err
		}
		how := "plain"
		if job.Result != nil && job.Result.Accelerated != nil {
			how = strings.TrimSuffix(fmt.Sprintf("%s: %s", job.Result.Accelerated.Way, job.Result.Accelerated.Reason), ": ")
		}
		if times[how]++; times[how] == 1 {
			told = append(told, how)
		}
	}
	for i, how := range told {
		told[i] = fmt.Sprintf("%d × %s", times[how], how)
	}
	return strings.Join(told, "; "), nil
}
