package integration_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/integration/lab"
)

// The secrets of TestSecretsNowhere, of which nothing may be found.
const (
	callers    = "canary-of-a-caller-4711"  // brought with each call
	wrong      = "canary-of-nobody-4712"    // the same, but it is wrong
	configured = "canary-in-a-file-4713"    // in a password file
	dockers    = "canary-in-docker-4714"    // in Docker's config.json
	forged     = "canary-in-garbage-471500" // in headers that are no credentials
)

var noCore = regexp.MustCompile(`Max core file size +0 +0 `)

// forms are the ways in which a secret could be written.
func forms(secret string) []string {
	login := []byte("ada:" + secret)
	all := []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString(login), base64.URLEncoding.EncodeToString(login)}
	// Wherever it stands in what is encoded, one of three.
	for shift := range 3 {
		whole := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		all = append(all, strings.TrimRight(whole, "=")[4:len(whole)-6])
	}
	return all
}

func authOf(secret string) string {
	return base64.URLEncoding.EncodeToString([]byte(`{"username":"ada","password":"` + secret + `"}`))
}

// authFor is authOf for one registry.
func authFor(secret, host string) string {
	return base64.URLEncoding.EncodeToString([]byte(`{"username":"ada","password":"` + secret + `","serveraddress":"` + host + `"}`))
}

// private starts a registry with an image that needs a password.
func private(t *testing.T, password string) (*lab.Registry, string) {
	t.Helper()
	r, err := lab.StartRegistry(lab.RegistryOptions{Username: "ada", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	image, err := lab.RandomImage(seeds.Add(1), 2, 1<<20, "linux/amd64")
	if err == nil {
		_, err = r.Push(t.Context(), "private", "v1", image)
	}
	if err != nil {
		t.Fatal(err)
	}
	ref := r.Ref("private", "v1")
	t.Cleanup(func() { remove(t, ref) })
	return r, ref
}

// heard is all that a daemon answered.
type heard struct {
	mu  sync.Mutex
	all strings.Builder
}

func (h *heard) call(t *testing.T, d *lab.Towline, method, target, body string, header ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	fields := make(http.Header)
	if body != "" {
		fields.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		fields.Set(header[i], header[i+1])
	}
	resp, err := d.Do(ctx, method, target, fields, strings.NewReader(body))
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body) // streams are cut by the time limit, or the daemon's end
	h.mu.Lock()
	defer h.mu.Unlock()
	fmt.Fprintln(&h.all, resp.Status, resp.Header, string(answer))
	return resp.StatusCode, string(answer)
}

func TestSecretsNowhere(t *testing.T) {
	lab.Need(t, site.err)
	hers, image := private(t, callers)
	_, own := private(t, configured)
	_, byDocker := private(t, dockers)
	outside, dir := t.TempDir(), t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(outside, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	host, _, _ := strings.Cut(byDocker, "/")
	write(".docker/config.json", fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("ada:"+dockers))))
	ownHost, _, _ := strings.Cut(own, "/")
	opts := lab.TowlineOptions{
		EngineHost: site.engine.Host,
		Config: fmt.Sprintf("log: {level: trace}\nauth: {verify_image_access: true}\nregistries: {credentials: [{registry: %q, username: ada, password_file: %q}]}\n",
			ownHost, write("password", configured+"\n")),
		Env: []string{"HOME=" + outside, "GOTRACEBACK=system"},
	}
	d, err := lab.StartTowline(t.Context(), site.bin, dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Stop() })
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", d.Pid)); err != nil || !noCore.Match(limits) {
		t.Errorf("its memory could be dumped: %v\n%s", err, limits)
	}
	var logs strings.Builder
	h := &heard{}
	status := func(want int, method, target, body string, header ...string) {
		t.Helper()
		if got, answer := h.call(t, d, method, target, body, header...); got != want {
			t.Errorf("%s %s %s: %d %s", method, target, body, got, answer)
		}
	}
	pull := func(ref, policy string) string {
		return fmt.Sprintf(`{"image":%q,"policy":%q,"retries":0}`, ref, policy)
	}
	const auth = "X-Registry-Auth"

	status(http.StatusForbidden, "POST", "/v1/pulls?wait=true", pull(image, "missing"))
	status(http.StatusForbidden, "POST", "/v1/pulls?wait=true", pull(image, "missing"), auth, authOf(wrong))
	status(http.StatusOK, "POST", "/v1/pulls", pull(image, "missing"), auth, authOf(callers), "Accept", "application/x-ndjson")
	status(http.StatusOK, "POST", "/v1/pulls?wait=true", pull(own, "missing"))
	status(http.StatusOK, "POST", "/v1/pulls?wait=true", pull(byDocker, "missing"))
	// It is there now, for her, and for nobody else.
	for _, policy := range []string{"missing", "never", "always", "newer"} {
		status(http.StatusForbidden, "POST", "/v1/pulls?wait=true", pull(image, policy), auth, authOf(wrong))
		status(http.StatusForbidden, "POST", "/v1/pulls?wait=true", pull(image, policy))
		status(http.StatusOK, "POST", "/v1/pulls?wait=true", pull(image, policy), auth, authOf(callers))
	}
	list := fmt.Sprintf(`{"images":[%q,%q]}`, image, own)
	// They are for one of its registries, which must be said.
	hersHost, _, _ := strings.Cut(image, "/")
	status(http.StatusBadRequest, "POST", "/v1/prewarms?dry_run=true", list, auth, authOf(callers))
	status(http.StatusOK, "POST", "/v1/prewarms?dry_run=true", list, auth, authFor(callers, hersHost))
	status(http.StatusForbidden, "POST", "/v1/prewarms?wait=true", list, auth, authFor(wrong, hersHost))
	status(http.StatusOK, "POST", "/v1/prewarms?wait=true", list, auth, authFor(callers, hersHost))
	status(http.StatusForbidden, "POST", "/v1/runs?wait=true", fmt.Sprintf(`{"image":%q}`, image), auth, authOf(wrong))
	status(http.StatusOK, "POST", "/images/create?fromImage="+image, "", auth, authOf(callers))
	status(http.StatusForbidden, "POST", "/images/create?fromImage="+image, "", auth, authOf(wrong))
	for _, header := range []string{
		forged, authOf(forged)[:40] + "!" + authOf(forged)[41:], base64.URLEncoding.EncodeToString([]byte(`["` + forged + `"]`)),
		base64.URLEncoding.EncodeToString([]byte(`{"username":["` + forged + `"]}`)), base64.URLEncoding.EncodeToString([]byte(`{"password":"` + forged + `"}`)),
		base64.URLEncoding.EncodeToString([]byte(`{"username":"` + forged + `\n"}`)), base64.URLEncoding.EncodeToString([]byte(`{"username":` + forged)),
		authOf(strings.Repeat(forged, 1000)),
	} {
		status(http.StatusBadRequest, "POST", "/v1/pulls", pull(image, "always"), auth, header)
		status(http.StatusBadRequest, "POST", "/images/create?fromImage="+image, "", auth, header)
	}
	for _, target := range []string{"/v1/jobs?limit=100", "/metrics", "/v1/engine", "/images/" + image + "/json"} {
		status(http.StatusOK, "GET", target, "")
	}

	// A pull that hangs has her credentials in memory: a crash tells nothing of them,
	// nor does the daemon that follows.
	remove(t, image)
	hers.Hold(1 << 10)
	_, answer := h.call(t, d, "POST", "/v1/pulls", pull(image, "always"), auth, authOf(callers))
	waitFor(t, d, `"phase":"pulling"`, answer)
	if err := syscall.Kill(d.Pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	d.Stop()
	if !strings.Contains(d.Log(), "SIGQUIT") || !strings.Contains(d.Log(), "goroutine 1 ") {
		t.Errorf("there is no dump in\n%s", d.Log())
	}
	logs.WriteString(d.Log())
	hers.Heal()
	if d, err = lab.StartTowline(t.Context(), site.bin, dir, opts); err != nil {
		t.Fatal(err)
	}
	id := idOf(answer)
	if _, answer = h.call(t, d, "GET", "/v1/jobs/"+id+"/events", ""); !strings.Contains(answer, `"kind":"denied"`) {
		t.Errorf("the job whose credentials are gone is told as %s", answer)
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	logs.WriteString(d.Log())

	texts := map[string]string{"the log": logs.String(), "an answer": h.all.String()}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		texts[path] = string(content)
		return err
	})
	if err != nil || len(texts) < 4 {
		t.Fatalf("what it wrote is not all there: %v", err)
	}
	for _, secret := range []string{callers, wrong, configured, dockers} {
		if !slices.ContainsFunc(forms(secret), func(form string) bool { return strings.Contains(authOf(secret), form) }) {
			t.Errorf("%s would not be found in a header", secret)
		}
	}
	for where, text := range texts {
		for _, secret := range []string{callers, wrong, configured, dockers, forged} {
			for _, form := range forms(secret) {
				if i := strings.Index(text, form); i >= 0 {
					t.Errorf("%s has %s in it: …%q…", where, secret, text[max(0, i-100):min(len(text), i+100)])
				}
			}
		}
	}
}

// idOf returns the ID of a job.
func idOf(job string) string {
	_, id, _ := strings.Cut(job, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	return id
}

// waitFor reads a job's events up to a word.
func waitFor(t *testing.T, d *lab.Towline, word, job string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := d.Do(ctx, http.MethodGet, "/v1/jobs/"+idOf(job)+"/events", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var read strings.Builder
	for buffer := make([]byte, 4096); !strings.Contains(read.String(), word); {
		n, err := resp.Body.Read(buffer)
		read.Write(buffer[:n])
		if err != nil {
			t.Fatalf("no %s in %s: %v", word, read.String(), err)
		}
	}
}
