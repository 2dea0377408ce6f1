package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// over returns an HTTP client for a daemon's socket, as curl --unix-socket is
// one.
func over(t *testing.T, d *lab.Towline) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(d.Host, "unix://"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func post(t *testing.T, d *lab.Towline, query, accept, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://towline/v1/pulls"+query, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := over(t, d).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func image(ref string) string { return fmt.Sprintf(`{"image":%q}`, ref) }

func TestPullWait(t *testing.T) {
	ref, digest := push(t, "wait", 3, 1<<20)
	d, _ := daemon(t)
	resp := post(t, d, "?wait=true", "", image(ref))
	var job puller.Job
	if err := json.NewDecoder(resp.Body).Decode(&job); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || job.State != puller.StateSucceeded || job.Result.Source != puller.SourcePulled || job.Result.Digest != digest {
		t.Errorf("%s: %+v %+v", resp.Status, job, job.Result)
	}
	id, err := site.engine.ImageID(t.Context(), ref)
	if err != nil || id != job.Result.ImageID {
		t.Errorf("the engine has %q, the job %q: %v", id, job.Result.ImageID, err)
	}
	if p := job.Progress; p == nil || p.Layers != 3 || p.LayersDone != 3 || p.Downloaded < 3<<20 || p.Downloaded != p.Total {
		t.Errorf("progress at the end: %+v", p)
	}
	// Again, it is present; and when the registry is asked, up to date.
	for policy, source := range map[string]puller.Source{"missing": puller.SourcePresent, "never": puller.SourcePresent, "always": puller.SourceUpToDate} {
		resp := post(t, d, "?wait=true", "", fmt.Sprintf(`{"image":%q,"policy":%q}`, ref, policy))
		var job puller.Job
		if err := json.NewDecoder(resp.Body).Decode(&job); err != nil {
			t.Fatal(err)
		}
		if job.Result == nil || job.Result.Source != source || job.Result.Digest != digest {
			t.Errorf("policy %s: %+v", policy, job.Result)
		}
	}
}

// The registry holds the last byte back until the test has read a layer event:
// a client that got its events only at the end would wait for ever.
func TestPullEventsLive(t *testing.T) {
	for _, accept := range []string{"application/x-ndjson", "text/event-stream"} {
		t.Run(accept, func(t *testing.T) {
			ref, _ := push(t, "live", 1, 2<<20)
			release := site.registry.Hold(1 << 20)
			defer release()
			d, _ := daemon(t)
			resp := post(t, d, "", accept, image(ref))
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				if strings.Contains(lines.Text(), `"phase":"downloading"`) {
					break
				}
			}
			if there, err := site.engine.HasImage(t.Context(), ref); there || err != nil {
				t.Fatalf("the image is there before its last byte: %v", err)
			}
			release()
			last := ""
			for lines.Scan() {
				if lines.Text() != "" {
					last = lines.Text()
				}
			}
			if !strings.Contains(last, `"type":"result"`) || !strings.Contains(last, `"state":"succeeded"`) {
				t.Errorf("the last event is %s: %v", last, lines.Err())
			}
		})
	}
}

func TestPullManyClients(t *testing.T) {
	const clients = 50
	ref, _ := push(t, "shared", 2, 1<<20)
	site.registry.ResetCounts()
	d, c := daemon(t)
	release := site.registry.Hold(1 << 19)
	defer release()
	var work sync.WaitGroup
	for range clients {
		work.Go(func() {
			resp := post(t, d, "?wait=true", "", image(ref))
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", resp.Status, body)
			}
		})
	}
	err := lab.Poll(t.Context(), 20*time.Millisecond, func(ctx context.Context) error {
		jobs, _, err := c.Jobs(ctx, puller.Filter{State: puller.StateActive})
		if err == nil && len(jobs) < clients {
			err = fmt.Errorf("%d jobs are active", len(jobs))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	release()
	work.Wait()
	// Two layers and a configuration, each asked for once.
	if n := site.registry.Counts(); n.BlobGets != 3 || n.ManifestGets != 1 {
		t.Errorf("the registry was asked %+v", n)
	}
}

func TestPullFailures(t *testing.T) {
	good, _ := push(t, "amd64", 1, 1<<10)
	broken, _ := push(t, "broken", 1, 1<<20)
	corruptLayers(t, broken)
	defer site.registry.Heal()
	d, _ := daemon(t)
	for _, c := range []struct {
		name, body string
		status     int
		kind       puller.ErrorKind
	}{
		{"no such image", image(site.registry.Ref("nope", "v1")), 404, puller.ErrNotFound},
		{"registry down", `{"image": "127.0.0.1:1/down:v1", "retries": 0}`, 502, puller.ErrRegistryUnavailable},
		{"corrupt layer", fmt.Sprintf(`{"image":%q,"retries":0}`, broken), 502, puller.ErrCorrupt},
		{"wrong platform", fmt.Sprintf(`{"image":%q,"platform":"linux/arm64"}`, good), 422, puller.ErrPlatformMismatch},
		{"not there and never to be pulled", fmt.Sprintf(`{"image":%q,"policy":"never"}`, broken), 404, puller.ErrNotFound},
		{"not a reference", image("UPPER"), 400, puller.ErrInvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp := post(t, d, "?wait=true", "", c.body)
			var problem struct {
				Status int
				Detail string
				Kind   puller.ErrorKind
			}
			body, _ := io.ReadAll(resp.Body)
			if err := json.Unmarshal(body, &problem); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || problem.Status != c.status || problem.Kind != c.kind || problem.Detail == "" {
				t.Errorf("%s: %s", resp.Status, body)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type: %s", got)
			}
		})
	}
}

// corruptLayers has every layer of an image arrive with a wrong byte.
func corruptLayers(t *testing.T, ref string) {
	t.Helper()
	layers, err := site.registry.Layers(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, digest := range layers {
		site.registry.CorruptBlob(digest)
	}
}

func TestEngineAbsent(t *testing.T) {
	lab.Need(t, site.err)
	d, _ := daemonWith(t, lab.TowlineOptions{EngineHost: "unix:///nonexistent/docker.sock", EngineDown: true})
	resp, err := over(t, d).Get("http://towline/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %s", resp.Status)
	}
	answer := post(t, d, "?wait=true", "", `{"image": "alpine", "retries": 0}`)
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), `"kind":"engine_unavailable"`) {
		t.Errorf("%s: %s", answer.Status, body)
	}
}

func TestPullLastCancel(t *testing.T) {
	ref, _ := push(t, "cancel", 1, 64<<20)
	site.registry.Throttle(1 << 20)
	defer site.registry.Throttle(0)
	_, c := daemon(t)
	var ids []string
	for range 2 {
		job, err := c.Submit(t.Context(), client.PullRequest{Image: ref})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, job.ID)
	}
	for e, err := range c.Events(t.Context(), ids[1]) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Layer != nil && e.Layer.Current > 0 {
			break
		}
	}
	if _, err := c.Cancel(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if job, err := c.Job(t.Context(), ids[1]); err != nil || job.State != puller.StateActive {
		t.Fatalf("a job ended with another one's: %+v %v", job, err)
	}
	job, err := c.Cancel(t.Context(), ids[1])
	if err != nil || job.State != puller.StateCanceled {
		t.Fatalf("%+v %v", job, err)
	}
	// The engine gives up: had it gone on, the image would come in a minute.
	err = lab.Poll(t.Context(), 50*time.Millisecond, func(ctx context.Context) error {
		if n := site.registry.Blobs(); n > 0 {
			return fmt.Errorf("%d blobs are still being sent", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if there, err := site.engine.HasImage(t.Context(), ref); there || err != nil {
		t.Errorf("the image is there: %v", err)
	}
}
