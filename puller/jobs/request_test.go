package jobs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/towline/towline/puller"
)

const someDigest = "sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"

func TestRequest(t *testing.T) {
	t.Parallel()
	t.Run("bad field", testRequestBadField)
	t.Run("at limits", testRequestAtLimits)
	t.Run("j s o n", testRequestJSON)
	t.Run("reference forms", testRequestReferenceForms)
}

func testRequestBadField(t *testing.T) {
	retries := func(n int) *int { return &n }
	seconds := func(n int) puller.Duration { return puller.Duration(time.Duration(n) * time.Second) }
	withDaemon(t, func(d *daemon) {
		for _, c := range []struct {
			request puller.PullRequest
			field   string
		}{
			{puller.PullRequest{Image: ""}, "image"},
			{puller.PullRequest{Image: " "}, "image"},
			{puller.PullRequest{Image: "UPPER"}, "image"},
			{puller.PullRequest{Image: "scratch"}, "image"},
			{puller.PullRequest{Image: "docker.io/library/scratch:v1"}, "image"},
			{puller.PullRequest{Image: "index.docker.io/library/scratch@" + someDigest}, "image"},
			{puller.PullRequest{Image: someDigest[:19]}, "image"},
			{puller.PullRequest{Image: "sha256:" + strings.Repeat("A", 64)}, "image"},
			{puller.PullRequest{Image: "docker.io/library/" + someDigest[:19]}, "image"},
			{puller.PullRequest{Image: "registry.test/UPPER:v1"}, "image"},
			{puller.PullRequest{Image: "alpine:" + strings.Repeat("x", 129)}, "image"},
			{puller.PullRequest{Image: strings.Repeat("x", 256)}, "image"},
			{puller.PullRequest{Image: strings.Repeat("a/", 600) + "b"}, "image"},
			{puller.PullRequest{Image: "alpine\n"}, "image"},
			{puller.PullRequest{Image: "alpine\n:3.20"}, "image"},
			{puller.PullRequest{Image: "alpine:3.20 "}, "image"},
			{puller.PullRequest{Image: "https://registry.test/alpine"}, "image"},
			{puller.PullRequest{Image: "alpine@sha256:abc"}, "image"},
			{puller.PullRequest{Image: "alpine@md5:d41d8cd98f00b204e9800998ecf8427e"}, "image"},
			{puller.PullRequest{Image: strings.TrimPrefix(someDigest, "sha256:")}, "image"},
			{puller.PullRequest{Image: "alpine:"}, "image"},
			{puller.PullRequest{Image: "../alpine"}, "image"},
			{puller.PullRequest{Image: "alp\x00ine"}, "image"},
			{puller.PullRequest{Image: good, Platform: "plan9"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "/"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "/amd64"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "linux(5)/amd64"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "lin*/amd64"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "lin\u212ax/amd64"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "linux/"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "linux/amd64/"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "plan9/amd64"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "linux/arm64/v7"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "linux/s390x/v1"}, "platform"},
			{puller.PullRequest{Image: good, Platform: "linux/amd64/v1/x"}, "platform"},
			{puller.PullRequest{Image: good, Platform: strings.Repeat("linux/", 1e5)}, "platform"},
			{puller.PullRequest{Image: good, Policy: "sometimes"}, "policy"},
			{puller.PullRequest{Image: good, Policy: "Always"}, "policy"},
			{puller.PullRequest{Image: good, Priority: "urgent"}, "priority"},
			{puller.PullRequest{Image: good, Timeout: seconds(-1)}, "timeout"},
			{puller.PullRequest{Image: good, Timeout: seconds(24*3600 + 1)}, "timeout"},
			{puller.PullRequest{Image: good, Timeout: 1<<63 - 1}, "timeout"},
			{puller.PullRequest{Image: good, Retries: retries(-1)}, "retries"},
			{puller.PullRequest{Image: good, Retries: retries(21)}, "retries"},
		} {
			_, err := d.Pull(c.request)
			if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), c.field+": ") || len(err.Error()) > 1000 {
				d.Errorf("%.60q: %.200v", fmt.Sprint(c.request), err)
			}
		}
		if page, _, _ := d.Jobs(puller.Filter{}); len(page) != 0 {
			d.Errorf("%d jobs were accepted", len(page))
		}
	})
	var r puller.PullRequest
	if err := json.Unmarshal([]byte(`{"image":"alpine","timeout":"soon"}`), &r); err == nil || !strings.HasPrefix(err.Error(), "timeout: ") {
		t.Errorf("a timeout that is none: %v", err)
	}
	if _, err := puller.ParsePolicy("newest"); puller.KindOf(err) != puller.ErrInvalidRequest {
		t.Errorf("a policy that is none: %v", err)
	}
}

func testRequestAtLimits(t *testing.T) {
	withDaemon(t, func(d *daemon) {
		for _, n := range []int{0, 20} {
			for _, timeout := range []time.Duration{time.Nanosecond, 24 * time.Hour} {
				d.submit(puller.PullRequest{Image: good, Retries: &n, Timeout: puller.Duration(timeout)})
			}
		}
	})
}

func testRequestJSON(t *testing.T) {
	var r puller.PullRequest
	err := json.Unmarshal([]byte(`{"image":"alpine","platform":"linux/arm64","policy":"always","priority":"high","timeout":"90s","retries":0}`), &r)
	if err != nil || time.Duration(r.Timeout) != 90*time.Second || r.Retries == nil || *r.Retries != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	again, err := json.Marshal(r)
	if err != nil || string(again) != `{"image":"alpine","platform":"linux/arm64","policy":"always","priority":"high","timeout":"1m30s","retries":0}` {
		t.Errorf("%s, %v", again, err)
	}
}

func testRequestReferenceForms(t *testing.T) {
	for image, want := range map[string]string{
		"alpine":                                  "docker.io/library/alpine:latest",
		"alpine:3.20":                             "docker.io/library/alpine:3.20",
		"towline/towline":                         "docker.io/towline/towline:latest",
		"docker.io/alpine":                        "docker.io/library/alpine:latest",
		"index.docker.io/library/alpine":          "docker.io/library/alpine:latest",
		"localhost/alpine":                        "localhost/alpine:latest",
		"localhost:5000/alpine":                   "localhost:5000/alpine:latest",
		"registry.test/a/b/c:V1.2_x-y":            "registry.test/a/b/c:V1.2_x-y",
		"[::1]:5000/alpine":                       "[::1]:5000/alpine:latest",
		"alpine@" + someDigest:                    "docker.io/library/alpine@" + someDigest,
		"alpine:3.20@" + someDigest:               "docker.io/library/alpine:3.20@" + someDigest,
		"registry.test:5000/alpine@" + someDigest: "registry.test:5000/alpine@" + someDigest,
	} {
		named, err := puller.ParseReference(image)
		if err != nil || named.String() != want {
			t.Errorf("%s: %v, %v", image, named, err)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"", "alpine", "alpine:3.20", "UPPER", "a\nb", "[::1]:5000/x", "localhost/x@" + someDigest, "docker.io/docker.io/x", "x:y@" + someDigest} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, image string) {
		named, err := puller.ParseReference(image)
		if err != nil {
			if puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), "image: ") {
				t.Errorf("%q: %v", image, err)
			}
			return
		}
		full := named.String()
		if again, err := puller.ParseReference(full); err != nil || again.String() != full {
			t.Errorf("%q becomes %q, and that %v, %v", image, full, again, err)
		}
		if !strings.Contains(full, "/") || !strings.ContainsAny(full[strings.LastIndex(full, "/"):], ":@") || strings.ContainsAny(full, " \t\r\n") {
			t.Errorf("%q is not the full form of %q", full, image)
		}
	})
}
