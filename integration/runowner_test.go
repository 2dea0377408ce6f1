package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// ask makes a call to an engine and decodes its answer.
func ask(t *testing.T, engine *lab.Engine, method, target, body string, answer any) {
	t.Helper()
	resp, err := engine.Do(t.Context(), method, target, http.Header{"Content-Type": {"application/json"}}, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, target, resp.Status)
	}
	if answer == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// An image that was committed from a run's container has its labels, and so have
// the containers that others start from it.
func TestRunCommittedContainer(t *testing.T) {
	ref := testProgramRef(t, "runcommit")
	opts := lab.TowlineOptions{EngineHost: site.engine.Host}
	dir := t.TempDir()
	d, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { d.Kill() }()
	p := startRun(t, d.Host, ref, "out=up\n", "sleep=1h")
	p.out.await(t, "up\n")
	var own []struct {
		ID     string `json:"Id"`
		Labels map[string]string
	}
	ask(t, site.engine, "GET", "/containers/json", "", &own)
	if len(own) != 1 {
		t.Fatalf("the engine has %v", own)
	}
	var image struct {
		ID string `json:"Id"`
	}
	ask(t, site.engine, "POST", "/commit?repo=127.0.0.1/claim&tag=v1&pause=0&changes="+url.QueryEscape("VOLUME /data")+"&container="+own[0].ID, "{}", &image)
	t.Cleanup(func() { remove(t, "127.0.0.1/claim:v1") })
	var theirs struct {
		ID string `json:"Id"`
	}
	ask(t, site.engine, "POST", "/containers/create", fmt.Sprintf(`{"Image": %q, "Cmd": ["sleep=1h"], "HostConfig": {"NetworkMode": "none"}}`, image.ID), &theirs)
	defer func() {
		resp, err := site.engine.Do(t.Context(), "DELETE", "/containers/"+theirs.ID+"?force=1&v=1", nil, nil)
		if err != nil || resp.StatusCode != http.StatusNoContent {
			t.Errorf("their container was removed: %v", resp)
		}
		checkNoContainers(t, site.engine)
	}()
	ask(t, site.engine, "POST", "/containers/"+theirs.ID+"/start", "", nil)
	there := func(when string) {
		t.Helper()
		var c struct {
			State  struct{ Running bool }
			Config struct{ Labels map[string]string }
			Mounts []struct{ Name string }
		}
		ask(t, site.engine, "GET", "/containers/"+theirs.ID+"/json", "", &c)
		if !c.State.Running || len(c.Mounts) != 1 || c.Config.Labels["towline.job"] != own[0].Labels["towline.job"] {
			t.Fatalf("%s, their container is %+v", when, c)
		}
		ask(t, site.engine, "GET", "/volumes/"+c.Mounts[0].Name, "", nil)
	}
	there("at first")
	c, err := client.New(d.Host, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Cancel(t.Context(), own[0].Labels["towline.job"]); err != nil {
		t.Error(err)
	}
	p.code()
	there("when the run has ended")
	d.Kill()
	if d, err = lab.StartTowline(t.Context(), site.bin, dir, opts); err != nil {
		t.Fatal(err)
	}
	// A run of the claiming image itself has labels of its own. By its end the new
	// daemon has looked for what is left, too.
	v, err := c.Run(t.Context(), client.RunRequest{Image: "127.0.0.1/claim:v1", Policy: puller.PolicyNever, Network: "none", Cmd: []string{"out=up", "sleep=2s"}})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !v.State.Ended() && time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		if v, err = c.Job(t.Context(), v.ID); err != nil {
			t.Fatal(err)
		}
	}
	if v.State != puller.StateSucceeded || *v.Result.ExitCode != 0 {
		t.Errorf("the run of it is %+v", v)
	}
	there("after a restart")
}
