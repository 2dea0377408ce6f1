package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller/fleet"
)

// compared passes calls on to a daemon at a unix socket, and compares them and their answers
// with the contract.
func compared(t *testing.T, host string) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "towline"})
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
	}}
	proxy.Transport = transport
	server := httptest.NewServer(contracttest.Wrap(t, proxy))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

// fleetUp waits until a daemon is in its fleet and hears itself.
func fleetUp(t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		link, err := c.Fleet().Link(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if link.State == fleet.LinkUp && link.Controller && link.Hosts > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the link is %+v", link)
		}
	}
}

// TestFleetCommands has a fleet of one daemon, which runs the server too.
func TestFleetCommands(t *testing.T) {
	ref, digest := push(t, "fleet", 2, 1<<20)
	other, otherDigest := push(t, "fleet2", 1, 1<<20)
	d, _ := daemonWith(t, lab.TowlineOptions{
		EngineHost: site.engine.Host,
		Config:     "fleet: {name: ci, embedded: true, listen: \"127.0.0.1:0\", labels: {role: ci}, zone: here}\nrules: {pull: {deny: [\"**/forbidden*\"]}}\n",
	})
	base := compared(t, d.Host)
	c, err := client.New(base, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	fleetUp(t, c)

	check := func(want int, words []string, args ...string) string {
		t.Helper()
		out, errs, code := towline(t, base, args...)
		if code != want {
			t.Fatalf("%q: exit code %d, not %d:\n%s%s\n%s", args, code, want, out, errs, d.Log())
		}
		for _, word := range words {
			if !strings.Contains(out+errs, word) {
				t.Errorf("%q does not say %q:\n%s%s", args, word, out, errs)
			}
		}
		return out
	}
	check(0, []string{"fleet ci: host ", "is up since", "it may change the fleet; 1 host live"}, "fleet")
	check(0, []string{"live", "role=ci", "here", "linux/amd64"}, "fleet", "hosts")
	check(0, []string{"app: generation 1, 1 proven, rollout done"}, "fleet", "apply", "app", ref, "--hosts", "role=ci", "--wait")
	check(0, []string{digest, "proven", "generation 1"}, "fleet", "show", "app", "--all")
	check(0, []string{digest}, "pull", ref, "--policy", "never", "-q")
	check(0, []string{"fleet.app"}, "sets")

	// What is wrong changes nothing.
	check(3, []string{"images[0]: ", "404"}, "fleet", "apply", "app", site.registry.Ref("nope", "v1"), "--wait")
	check(3, []string{"rules.pull"}, "fleet", "apply", "app", "registry.test/forbidden:v1")
	check(3, []string{"hosts: "}, "fleet", "apply", "app", ref, "--hosts", "Role=ci")
	check(3, []string{"rollout"}, "fleet", "apply", "app", ref, "--wave", "some")
	check(0, []string{"app  1 "}, "fleet", "show")

	// No host is there: nothing is proven.
	check(3, []string{"no host"}, "fleet", "apply", "none", ref, "--hosts", "role=none", "--wait")

	// A Compose file over HTTP, with an answer for people.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+"/v1/fleet/sets/app?wait=true&host=role=ci&wave=1", strings.NewReader(fmt.Sprintf("services: {a: {image: %q}, b: {image: %q}}", ref, other)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/yaml")
	r.Header.Set("Accept", "text/plain")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 1<<10)
	n, _ := resp.Body.Read(text)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(text[:n]), "set app: generation 2, 1 proven\n") {
		t.Errorf("%s: %s", resp.Status, text[:n])
	}
	s, err := c.Fleet().Set(t.Context(), "app", "")
	if err != nil || len(s.Images) != 2 || s.Images[1].Digest != otherDigest || s.Rollout.RolloutRequest.Wave != "1" {
		t.Errorf("%+v, %v", s, err)
	}
	check(1, []string{"the rollout is done"}, "fleet", "pause", "app")

	for name, want := range map[string]string{"": fleet.EventLink, "app": fleet.EventSet} {
		for e, err := range c.Fleet().Events(t.Context(), name) {
			if err != nil || e.Type != want {
				t.Errorf("the first event of %q is %+v: %v", name, e, err)
			}
			break
		}
	}

	// The page of the real fleet.
	b := newBrowser(t, base+"/")
	b.until(`document.getElementById("connection").textContent === %s`, "Live")
	b.open("fleet")
	b.shows("Generation 2. Rollout done. 1 of 1 hosts may have it")
	b.until(`document.querySelector(".states").getAttribute("aria-label") === %s`, "app: 1 proven")
	b.shows("1 of 1 live")
	check(0, []string{"app: generation 3, 1 proven"}, "fleet", "apply", "app", ref, "--wait")
	b.shows("Generation 3. Rollout done.")

	creds := filepath.Join(t.TempDir(), "fleet.creds")
	check(0, nil, "fleet", "invite", "build-7", "--label", "role=ci", "--zone", "there", "--out", creds)
	if raw, err := os.ReadFile(creds); err != nil || !strings.Contains(string(raw), "build-7") {
		t.Errorf("%q, %v", raw, err)
	}
	check(1, []string{"was invited"}, "fleet", "invite", "build-7")
	check(0, []string{"build-7"}, "fleet", "invite", "build-7", "--replace")
	check(0, []string{"removed"}, "fleet", "uninvite", "build-7")

	check(0, []string{"app: forgotten"}, "fleet", "rm", "app", "none")
	check(3, []string{"has no set"}, "fleet", "show", "app")
}
