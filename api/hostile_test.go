package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// What would open the host to a program is refused by its name, whatever it is
// called in Docker's API, in Compose or on the command line.
func TestPrivilegesOfRuns(t *testing.T) {
	d := startRunning(t, nil)
	refused := func(field, body string) {
		t.Helper()
		p := d.call("POST", "/v1/runs", body).problem(t, http.StatusBadRequest, puller.ErrInvalidRequest)
		if name, _, _ := strings.Cut(p.Detail, ":"); name != field {
			t.Errorf("%s is refused with %s", body, p.Detail)
		}
	}
	for field, value := range map[string]string{
		"privileged": `true`, "Privileged": `false`, "cap_add": `["SYS_ADMIN"]`, "CapAdd": `["ALL"]`, "cap_drop": `[]`, "cap-add": `["ALL"]`,
		"devices": `["/dev/mem"]`, "Devices": `[]`, "device_cgroup_rules": `["a *:* rwm"]`, "device_requests": `[]`, "gpus": `"all"`,
		"mounts": `[{"type":"bind","source":"/","target":"/host"}]`, "Mounts": `[]`, "volumes": `["/:/host"]`, "volumes_from": `["other"]`, "binds": `["/:/host"]`, "Binds": `[]`, "tmpfs": `["/x"]`,
		"network_mode": `"host"`, "NetworkMode": `"host"`, "networks": `["host"]`, "links": `["db"]`, "ports": `["0.0.0.0:22:22"]`, "publish_all_ports": `true`, "extra_hosts": `["a:1.2.3.4"]`, "dns": `["1.2.3.4"]`,
		"pid": `"host"`, "pid_mode": `"host"`, "PidMode": `"host"`, "ipc": `"host"`, "ipc_mode": `"host"`, "uts": `"host"`, "userns_mode": `"host"`, "cgroup": `"host"`, "cgroupns_mode": `"host"`, "cgroup_parent": `"/"`,
		"security_opt": `["seccomp=unconfined"]`, "SecurityOpt": `["apparmor=unconfined"]`, "sysctls": `{"kernel.core_pattern":"|/x"}`, "group_add": `["docker"]`, "runtime": `"evil"`, "isolation": `"none"`,
		"oom_kill_disable": `true`, "oom_score_adj": `-1000`, "ulimits": `{}`, "shm_size": `"1g"`, "storage_opt": `{}`, "masked_paths": `[]`, "readonly_paths": `[]`, "restart": `"always"`, "auto_remove": `false`,
		"labels": `{"towline.job":"x"}`, "name": `"towline"`, "hostname": `"x"`, "logging": `{"driver":"syslog"}`, "use_api_socket": `true`, "HostConfig": `{"Privileged":true}`, "host_config": `{}`, "NetworkingConfig": `{}`,
	} {
		refused(field, fmt.Sprintf(`{"image":%q,%q:%s}`, program, field, value))
		refused(field, fmt.Sprintf(`{%q:%s,"image":%q}`, field, value, program))
	}
	for _, network := range []string{"host", "Host", "HOST", " host", "default", "container:towline", "ns:/proc/1/ns/net", "none,host", "bridge\x00host", "my-network", strings.Repeat("h", 300_000)} {
		body, _ := json.Marshal(map[string]string{"image": program, "network": network})
		refused("network", string(body))
	}
	// Said twice, what is taken is what was checked; and a name in capitals is the same name.
	refused("network", `{"image":"`+program+`","network":"none","network":"host"}`)
	refused("network", `{"image":"`+program+`","network":"none","NETWORK":"host"}`)
	if n := d.Engine.Counts().Created; n != 0 || d.jobs() != 0 {
		t.Errorf("%d containers were made, for %d jobs", n, d.jobs())
	}
}

// badReferences are no names of images, each in another way.
func badReferences() []string {
	const digest = "sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"
	return []string{
		"alpine\n", "\nalpine", "alp\nine:v1", "alpine:v1\nX-Evil: 1", "alpine:v1\r\n", "alpine\t", "alpine\x00", "alpine:v1\x00.evil.test/x", "\x1b[2Jalpine", "alpine\u009b2J", "alpine:\x7f",
		" alpine", "alpine ", "al pine", "alpine: v1", "alpine :v1", "alpine\u00a0", "alpine\u2003v1", "alpine\u3000",
		"@", "alpine@", "@" + digest, "alpine@@" + digest, "alpine@" + digest + "@" + digest, "alpine@v1", "alpine@" + digest + ":v1", "alpine@sha256:" + strings.Repeat("g", 64), "alpine@" + strings.ToUpper(digest), "alpine@" + digest + " ", "user@registry.test/app", "user:secret@registry.test/app:v1", "registry.test@evil.test/app",
		"\u0430lpine", "alpin\u0435:v1", "\uff41lpine", "alpine\uff1av1", "registry\u2024test/app", "registry.test\u2215app", "registry.test\uff0fapp", "al\u200bpine", "\ufeffalpine", "alpine\u202ev1", "a\u0301lpine", "alpine:\u0661", "\u017fha/app", "\u212aube/app", "registry.t\u0117st/app", "alpine\u00ad", "\U0001d41alpine", "\ufffd",
		"alpine%00", "alpine%0a", "registry.test/%2e%2e/app", "../alpine", "registry.test/../app", "a//b", "/alpine", "alpine/", ":v1", "alpine:v1:v2", "alpine:v1/x y", "http://registry.test/app", "file:///etc/passwd", "registry.test:99999999999999999999x/app", "-alpine", "--privileged", "$(id)", "`id`", "alpine;id", "alpine|id", "alpine&tag=v2", "alpine?x", "alpine#x", "{{.}}", "<b>alpine</b>", "'", `"`, `\`,
		strings.Repeat("a/", 130) + "a", "alpine:" + strings.Repeat("v", 129), strings.Repeat("a", 300_000), strings.Repeat("\u0430", 100_000), strings.Repeat("a/", 150_000) + "a", "alpine:" + strings.Repeat("\n", 300_000),
	}
}

// Wherever an image can be named, what is no name is refused before anything
// is asked of an engine, in a few words that are safe to print.
func TestHostileReferences(t *testing.T) {
	d := startRunning(t, nil)
	quoted := func(s string) string {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, image := range badReferences() {
		for _, place := range []struct{ field, method, path, body, media string }{
			{"image", "POST", "/v1/pulls", `{"image":` + quoted(image) + `}`, ""},
			{"image", "POST", "/v1/pulls?wait=true", `{"policy":"never","image":` + quoted(image) + `}`, ""},
			{"image", "POST", "/v1/runs", `{"image":` + quoted(image) + `}`, ""},
			{"images", "POST", "/v1/prewarms", `{"images":["` + program + `",` + quoted(image) + `]}`, ""},
			{"images", "POST", "/v1/prewarms", `{"images":[{"image":` + quoted(image) + `}]}`, ""},
			{"services", "POST", "/v1/prewarms", `{"services":{"a":{"image":` + quoted(image) + `}}}`, "application/yaml"},
			{"image", "GET", "/v1/jobs?image=" + url.QueryEscape(image), "", ""},
			{"image", "GET", "/v1/events?image=" + url.QueryEscape(image), "", ""},
			{"fromImage", "POST", "/images/create?tag=v1&fromImage=" + url.QueryEscape(image), "", ""},
			{"tag", "POST", "/v1.41/images/create?fromImage=alpine&tag=" + url.QueryEscape(image), "", ""},
			{"tag", "POST", "/v1.41/images/create?fromImage=alpine&tag=" + url.QueryEscape("x@"+image), "", ""},
		} {
			header := []string{}
			if place.media != "" {
				header = append(header, "Content-Type", place.media)
			}
			a := d.call(place.method, place.path, place.body, header...)
			if a.Status == http.StatusRequestHeaderFieldsTooLarge && len(place.path) > 128<<10 {
				continue // it was not read
			}
			var p struct{ Detail, Message string }
			if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
				t.Fatalf("%v in %.200s", err, a.Body)
			}
			says := p.Detail + p.Message
			switch {
			case len(place.path) > 32<<10 && a.Status == http.StatusRequestURITooLong:
			case place.field == "services" && a.Status == http.StatusBadRequest: // Compose has its own words for some
			case a.Status != http.StatusBadRequest || !strings.HasPrefix(says, place.field):
				t.Errorf("%s %.60s %.80q: %d %.300s", place.method, place.path, place.body, a.Status, says)
			}
			if len(says) > 1000 || strings.IndexFunc(says, unsafe) >= 0 {
				t.Errorf("%s %.60s %.80q: what is said is not safe, or %d bytes long: %.600q", place.method, place.path, place.body, len(says), says)
			}
		}
	}
	if c := d.Engine.Counts(); c.Pulls+c.Inspects+c.Created != 0 || d.jobs() != 0 {
		t.Errorf("the engine was asked: %+v, for %d jobs", c, d.jobs())
	}
}

func unsafe(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// However long what is wrong is, the answer is short.
func TestErrorsAreShort(t *testing.T) {
	d := startRunning(t, nil)
	long := strings.Repeat("x", 300_000)
	for _, c := range []struct{ path, body, media string }{
		{"/v1/pulls", `{"image":"a","` + long + `":1}`, ""},
		{"/v1/runs", `{"image":"a","` + long + `":1}`, ""},
		{"/v1/prewarms", `{"images":["a"],"` + long + `":1}`, ""},
		{"/v1/prewarms", `{"images":[{"image":"a","` + long + `":1}]}`, ""},
		{"/v1/runs", `{"image":"a","env":{"` + long + `=":"x"}}`, ""},
		{"/v1/runs", `{"image":"a","env":{"` + long + `":1}}`, ""},
		{"/v1/runs", `{"image":"a","memory":"` + long + `"}`, ""},
		{"/v1/pulls", `{"image":"a","platform":"` + long + `"}`, ""},
		{"/v1/pulls", `{"image":"a","policy":"` + long + `"}`, ""},
		{"/v1/pulls", `{"image":"a","priority":"` + long + `"}`, ""},
		{"/v1/pulls", `{"image":"a","timeout":"` + long + `"}`, ""},
		{"/v1/pulls", `{"image":"a"}`, long[:100_000]},
		{"/v1/pulls?wait=" + long[:30_000], `{"image":"a"}`, ""},
		{"/v1/pulls?every=" + long[:30_000], `{"image":"a"}`, ""},
		{"/v1/pulls?" + strings.Repeat("%f7", 10_000) + "=1", `{"image":"a"}`, ""},
		{"/v1/pulls?wait=true", `{"image":"a","` + strings.Repeat("\u202e", 100_000) + `":1}`, ""},
		{"/v1/pulls?" + long[:30_000] + "=1", `{"image":"a"}`, ""},
		{"/v1/pulls?wait=%" + long[:30_000], `{"image":"a"}`, ""},
		{"/v1/prewarms?var=" + long[:30_000], "services: {a: {image: a}}", "application/yaml"},
		{"/v1/prewarms?policy=" + long[:30_000], "services: {a: {image: a}}", "application/yaml"},
		{"/v1/prewarms", "services: {" + long + ": {image: UPPER}}", "application/yaml"},
		{"/v1/prewarms", long + ": {}", "application/yaml"},
		{"/v1/prewarms", "services: {a: {image: '${" + long + "}'}}", "application/yaml"},
	} {
		header := []string{}
		if c.media != "" {
			header = append(header, "Content-Type", c.media)
		}
		a := d.call("POST", c.path, c.body, header...)
		if p := a.problem(t, http.StatusBadRequest, puller.ErrInvalidRequest); len(p.Detail) > 2100 || strings.IndexFunc(p.Detail, unsafe) >= 0 {
			t.Errorf("%.60s %.60s: refused in %d bytes: %.100q", c.path, c.body, len(p.Detail), p.Detail)
		}
	}
}

// What a registry or an engine says comes into no header of an answer, and a
// request puts none there.
func TestNoForeignTextInHeaders(t *testing.T) {
	d := start(t)
	const evil = "no such manifest\r\nX-Evil: 1\r\n\r\nHTTP/1.1 200 OK\nX-Evil: 2\x1b[2J"
	d.Engine.Script("evil:v1", func(p *enginetest.Pull) {
		p.Line(`{"status":"Pulling from evil","id":"v1"}`)
		said, _ := json.Marshal(evil)
		p.Line(`{"errorDetail":{"message":` + string(said) + `},"error":` + string(said) + `}`)
	})
	d.Engine.Script("worse:v1", func(p *enginetest.Pull) { p.Refuse(http.StatusNotFound, evil) })
	d.Engine.OnInspect(func(image string, _ <-chan struct{}) (int, string) {
		if strings.Contains(image, "worst") {
			return http.StatusInternalServerError, evil
		}
		return 0, ""
	})
	var targets []string
	for _, image := range []string{"evil", "worse", "worst"} {
		targets = append(targets, "POST /v1/pulls?wait=true "+image, "POST /v1/pulls "+image, "POST /v1/prewarms?wait=true "+image, "POST /v1.41/images/create?tag=v1&fromImage="+image+" ")
	}
	const crlf = "%0d%0aX-Evil:%201"
	for _, path := range []string{
		"/v1/jobs/" + crlf, "/v1//jobs/" + crlf, "//evil.test/" + crlf, "/v1/pulls/" + crlf + "/..", "/x" + crlf, "/v1/jobs?image=" + crlf, "/v1/jobs?" + crlf + "=1", "/v1/events?since=" + crlf,
		"/v1.41" + crlf + "/_ping", "/v1.41/images/" + crlf + "/json", "/v1.41//images/" + crlf + "/json", "/" + crlf + "/../v1/jobs",
	} {
		targets = append(targets, "GET "+path+" ", "POST "+path+" evil", "DELETE "+path+" ")
	}
	for _, target := range targets {
		method, rest, _ := strings.Cut(target, " ")
		path, image, _ := strings.Cut(rest, " ")
		body := ""
		if image != "" {
			body = `{"image":"` + image + `:v1","retries":0}`
		}
		if strings.Contains(path, "prewarms") {
			body = `{"images":[` + body + `]}`
		}
		head := headOf(t, d, method, path, body)
		for line := range strings.Lines(head) {
			name, value, _ := strings.Cut(strings.ToLower(strings.TrimRight(line, "\r\n")), ":")
			if strings.Contains(name, "evil") || strings.IndexFunc(line, func(r rune) bool { return r != '\r' && r != '\n' && (r < ' ' || r > '~') }) >= 0 ||
				strings.Contains(value, "manifest") || name == "location" && !strings.HasPrefix(value, " /") {
				t.Errorf("%s is answered with\n%s", target, head)
				break
			}
		}
		if !strings.HasPrefix(head, "HTTP/1.1 ") {
			t.Errorf("%s is answered with %q", target, head)
		}
	}
}

// headOf sends a request, and returns the head of the answer as it came.
func headOf(t *testing.T, d *daemon, method, target, body string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	raw, err := io.ReadAll(conn)
	head, _, found := strings.Cut(string(raw), "\r\n\r\n")
	if err != nil || !found {
		t.Fatalf("%s %s: %v, %.300q", method, target, err, raw)
	}
	return head
}
