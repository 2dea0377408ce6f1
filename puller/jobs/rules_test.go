package jobs_test

import (
	"context"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/rules"
)

const pinned = "@sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"

func parseRules(t *testing.T, pull rules.Written) puller.Rules {
	t.Helper()
	r, err := rules.Parse("rules", pull, rules.Written{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// forbids checks that an error is ErrForbidden and names the rule, or that it is none.
func forbids(t *testing.T, what string, err error, rule string) {
	t.Helper()
	switch {
	case rule == "" && puller.KindOf(err) == puller.ErrForbidden:
		t.Errorf("%s: forbidden: %v", what, err)
	case rule != "" && (puller.KindOf(err) != puller.ErrForbidden || !strings.Contains(err.Error(), rule)):
		t.Errorf("%s: the error does not name %q: %v", what, rule, err)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	t.Run("name forms", testRulesNameForms)
	t.Run("look alikes", testRulesLookAlikes)
	t.Run("on policies and platforms", testRulesOnPoliciesAndPlatforms)
	t.Run("on every request", testRulesOnEveryRequest)
	t.Run("changed", testRulesChanged)
}

func testRulesNameForms(t *testing.T) {
	type w = rules.Written
	library, team := w{Allow: []string{"docker.io/library/*"}}, w{Allow: []string{"registry.example.com/team/**"}}
	noHub, noLatest := w{Deny: []string{"docker.io/**"}}, w{Deny: []string{"**:latest"}}
	both := w{Allow: []string{"docker.io/**"}, Deny: []string{"docker.io/evil/*"}}
	tags := w{Allow: []string{"docker.io/library/alpine:3.*"}}
	digests := w{Allow: []string{"docker.io/library/*@sha256:e126*"}}
	const allow, deny = "rules.pull.allow", "rules.pull.deny forbids "
	for _, c := range []struct {
		rules w
		image string
		rule  string // that forbids it
	}{
		{w{}, "anything.test/at/all:v1", ""},
		{library, "alpine", ""},
		{library, "alpine:3.20", ""},
		{library, "library/alpine", ""},
		{library, "docker.io/library/alpine" + pinned, ""},
		{library, "index.docker.io/library/alpine:3.20", ""},
		{library, "registry-1.docker.io/library/alpine:3.20", ""},
		{library, "DOCKER.IO/library/alpine", ""},
		{library, "grafana/loki", allow},
		{library, "docker.io.evil.test/library/alpine", allow},
		{library, "evil.test/docker.io/library/alpine", allow},
		{library, "evil.test/library/alpine", allow},
		{library, "localhost/library/alpine", allow},
		{library, "docker.io:5000/library/alpine", allow},
		{library, "docker.io/library/alpine/deeper", allow},

		{team, "registry.example.com/team/a", ""},
		{team, "registry.example.com/team/a/b/c:v1", ""},
		{team, "Registry.Example.COM/team/a", ""},
		{team, "registry.example.com:443/team/a", ""},
		{team, "registry.example.com/teams/a", allow},
		{team, "registry.example.com/team", allow},
		{team, "registry.example.com:8443/team/a", allow},
		{team, "registry-example.com/team/a", allow},
		{team, "xregistry.example.com/team/a", allow},
		{team, "team/a", allow},

		{noHub, "registry.example.com/a", ""},
		{noHub, "alpine", deny + "docker.io/**"},
		{noHub, "a/b", deny},
		{noHub, "index.docker.io/a/b", deny},
		{noHub, "docker.io:443/a/b", deny},
		{noHub, "registry-1.docker.io/a/b", deny},
		{noHub, "Registry-1.Docker.io:443/a/b", deny},
		{noHub, "registry.hub.docker.com/a/b", deny},
		{noHub, "INDEX.docker.io/a/b" + pinned, deny},

		{noLatest, "alpine", deny + "**:latest"},
		{noLatest, "alpine:latest" + pinned, deny},
		{noLatest, "alpine:3.20", ""},
		{noLatest, "alpine" + pinned, ""},

		{both, "good/image", ""},
		{both, "evil/image", deny + "docker.io/evil/*"},

		{tags, "alpine:3.20", ""},
		{tags, "alpine:edge", allow},
		{tags, "alpine", allow},
		{tags, "alpine" + pinned, allow},
		{tags, "alpine:3.20" + pinned, allow}, // what is pulled is the digest
		{digests, "alpine" + pinned, ""},
		{digests, "alpine:whatever" + pinned, ""},
		{digests, "alpine:3.20", allow},
		{w{Deny: []string{"docker.io/library/alpine@*"}}, "alpine:3.20", ""},
		{w{Deny: []string{"docker.io/library/alpine@*"}}, "alpine:3.20" + pinned, deny},
		{w{Deny: []string{"docker.io/library/alpine:*"}}, "alpine" + pinned, ""},
		{w{Allow: []string{"docker.io/library/alpin?"}}, "alpine:3.20", ""},
		{w{Allow: []string{"docker.io/?/x"}}, "library/x", allow},

		{w{Deny: []string{"127.0.0.1:*/**"}}, "127.0.0.1:5000/a", deny},
		{w{Deny: []string{"127.0.0.1:*/**"}}, "[::ffff:7f00:1]:5000/a", deny},
		{w{Deny: []string{"[::1]:5000/**"}}, "[0:0:0:0:0:0:0:1]:5000/a", deny},
		{w{Deny: []string{"Registry.Example.com:443/**"}}, "registry.example.com/a", deny},

		{w{Deny: []string{"127.0.0.1:5000/**"}}, "127.0.0.1:05000/a", deny},
		{w{Deny: []string{"localhost:5000/**"}}, "localhost:" + strings.Repeat("0", 40) + "5000/a", deny},
		{w{Deny: []string{"127.0.0.1:05000/**"}}, "127.0.0.1:5000/a", deny},
		{w{Deny: []string{"*.example.com:05000/**"}}, "a.example.com:5000/a", deny},
		{w{Deny: []string{"registry.example.com:*/**"}}, "registry.example.com/a", deny},
		{w{Deny: []string{"registry.example.com:80/**"}}, "registry.example.com/a", deny}, // engines may go on to plain HTTP
		{w{Deny: []string{"registry.example.com/**"}}, "registry.example.com:80/a", deny},
		{w{Deny: []string{"registry.example.com/**"}}, "registry.example.com:8080/a", ""},
		{w{Deny: []string{"registry-*.docker.io/**"}}, "alpine", deny},
		{w{Deny: []string{"Registry-?.docker.io/**"}}, "registry-1.docker.io/library/alpine", deny},
		{w{Allow: []string{"registry.example.com:443/**"}}, "registry.example.com/a", ""},
		{w{Allow: []string{"registry.example.com:*/**"}}, "registry.example.com/a", ""},
		{team, "registry.example.com:80/team/a", allow},
		{team, "registry.example.com:0443/team/a", ""},
		{w{Allow: []string{"[::1]:5000/**"}}, "[0::1]:05000/a", ""},

		{w{RequireDigest: true}, "alpine:3.20", "rules.pull.require_digest"},
		{w{RequireDigest: true}, "alpine:3.20" + pinned, ""},
	} {
		o := defaults
		o.Rules = parseRules(t, c.rules)
		withDaemonOf(t, o, nil, func(d *daemon) {
			what := c.image + " under " + strings.Join(append(c.rules.Allow, c.rules.Deny...), " ")
			_, err := d.Pull(puller.PullRequest{Image: c.image, Policy: puller.PolicyNever})
			forbids(t, what, err, c.rule)
			_, err = d.Service.Run(puller.RunRequest{Image: c.image, Policy: puller.PolicyNever})
			forbids(t, "a run of "+what, err, c.rule)
			if c.rules.RequireDigest {
				return
			}
			_, err = d.Image(context.Background(), c.image, "", nil)
			forbids(t, "a look at "+what, err, c.rule)
		})
	}
}

func testRulesLookAlikes(t *testing.T) {
	o := defaults
	o.Rules = parseRules(t, rules.Written{Deny: []string{"docker.io/**"}})
	withDaemonOf(t, o, nil, func(d *daemon) {
		for _, image := range []string{
			"dоcker.io/library/alpine", // a Cyrillic о
			"docker.io/library/аlpine", // a Cyrillic а
			"docker。io/library/alpine", "docker.io./library/alpine", "docker.io/library/alpine\n", "docker.io/library/alpine:３", "docker.io//library/alpine",
			"https://docker.io/library/alpine", "docker.io@evil.test/alpine", "docker.io/../library/alpine", "docker.io/Library/alpine", "docker.io%2flibrary/alpine",
		} {
			if _, err := d.Pull(puller.PullRequest{Image: image}); puller.KindOf(err) != puller.ErrInvalidRequest {
				d.Errorf("%q: %v", image, err)
			}
		}
	})
}

func testRulesOnPoliciesAndPlatforms(t *testing.T) {
	policies, platforms := rules.Written{Policies: []string{"never", "missing"}}, rules.Written{Platforms: []string{"linux/amd64", "linux/arm64/v8"}}
	withOwn := rules.Written{Platforms: []string{rules.DefaultPlatform, "linux/arm64"}}
	for _, c := range []struct {
		rules    rules.Written
		policy   puller.Policy
		platform string
		rule     string
	}{
		{policies, puller.PolicyNever, "", ""},
		{policies, "", "", ""}, // missing, by default
		{policies, puller.PolicyAlways, "", "rules.pull.policies"},
		{policies, puller.PolicyNewer, "", "rules.pull.policies"},
		{platforms, puller.PolicyNever, "linux/amd64", ""},
		{platforms, puller.PolicyNever, "linux/amd64/v2", ""},
		{platforms, puller.PolicyNever, "linux/arm64", ""}, // v8 is what it means
		{platforms, puller.PolicyNever, "linux/arm64/v9", "rules.pull.platforms"},
		{platforms, puller.PolicyNever, "linux/arm/v7", "rules.pull.platforms"},
		{platforms, puller.PolicyNever, "windows/amd64", "rules.pull.platforms"},
		{platforms, puller.PolicyNever, "", "rules.pull.platforms"},
		{withOwn, puller.PolicyNever, "", ""},
		{withOwn, puller.PolicyNever, "linux/arm64/v9", ""},
		{withOwn, puller.PolicyNever, "linux/amd64", "rules.pull.platforms"},
	} {
		withDaemon(t, func(d *daemon) {
			d.serve(good)
			own := parseRules(t, c.rules)
			_, err := d.Pull(with(puller.PullRequest{Image: good, Policy: c.policy, Platform: c.platform}, func(r *puller.PullRequest) { r.Rules = own }))
			forbids(t, string(c.policy)+" "+c.platform, err, c.rule)
		})
	}
}

func testRulesOnEveryRequest(t *testing.T) {
	o := defaults
	o.Rules, _ = rules.Parse("rules", rules.Written{Deny: []string{"registry.test/no-pull"}}, rules.Written{Deny: []string{"registry.test/no-run"}})
	own, _ := rules.Parse("token:ci's rules", rules.Written{Deny: []string{"registry.test/not-ci"}}, rules.Written{Allow: []string{"registry.test/only"}})
	withDaemonOf(t, o, nil, func(d *daemon) {
		for image, want := range map[string]struct{ pull, run string }{
			"registry.test/no-pull": {"rules.pull.deny", "rules.pull.deny"}, // what runs is pulled
			"registry.test/no-run":  {"", "rules.run.deny"},
			"registry.test/not-ci":  {"token:ci's rules.pull.deny", "token:ci's rules.pull.deny"},
			"registry.test/other":   {"", "token:ci's rules.run.allow"},
			"registry.test/only":    {"", ""},
		} {
			_, err := d.Pull(with(puller.PullRequest{Image: image, Policy: puller.PolicyNever}, func(r *puller.PullRequest) { r.Rules = own }))
			forbids(t, "pull "+image, err, want.pull)
			_, err = d.Service.Run(with(puller.RunRequest{Image: image, Policy: puller.PolicyNever}, func(r *puller.RunRequest) { r.Rules = own }))
			forbids(t, "run "+image, err, want.run)
			list := with(puller.PrewarmRequest{Images: puller.Images{{Image: good, Policy: puller.PolicyNever}, {Image: image, Policy: puller.PolicyNever}}}, func(r *puller.PrewarmRequest) { r.Rules = own })
			if want.pull != "" {
				want.pull = "images[1]: " + image + ":latest: " + want.pull
			}
			_, err = d.Prewarm(list)
			forbids(t, "prewarm "+image, err, want.pull)
			_, err = d.Plan(context.Background(), list)
			forbids(t, "plan "+image, err, want.pull)
			_, err = d.Image(context.Background(), image, "", own)
			forbids(t, "inspect "+image, err, strings.TrimPrefix(want.pull, "images[1]: "))
		}
		page, _, err := d.Jobs(puller.Filter{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page {
			if strings.Contains(j.Image, "no-pull") || strings.Contains(j.Image, "not-ci") {
				t.Errorf("there is a job for %s", j.Image)
			}
		}
	})
}

func TestImageIDNeedsAllowedName(t *testing.T) {
	t.Parallel()
	o := defaults
	o.Rules = parseRules(t, rules.Written{Allow: []string{"registry.test/good"}})
	withDaemonOf(t, o, nil, func(d *daemon) {
		i, j := enginetest.NewImage(good, 1), enginetest.NewImage(other, 2)
		d.engine.Tag(good, i)
		d.engine.Tag(other, j)
		found, err := d.Image(context.Background(), i.ID, "", nil)
		if err != nil || len(found.RepoDigests) == 0 {
			t.Errorf("%+v, %v", found, err)
		}
		_, err = d.Image(context.Background(), j.ID, "", nil)
		forbids(t, "by ID", err, "rules forbid")
		_, err = d.Image(context.Background(), strings.TrimPrefix(j.ID, "sha256:"), "", nil)
		forbids(t, "by bare ID", err, "rules forbid")
	})
}

func testRulesChanged(t *testing.T) {
	forbidden := parseRules(t, rules.Written{Deny: []string{"registry.test/**"}})
	withDaemon(t, func(d *daemon) {
		d.hold(good)
		j := d.pullAlways(good)
		d.inState(j, puller.StateActive, puller.PhasePulling)
		d.change = func(o *jobs.Options) { o.Rules = forbidden }
		d.close()
		d.serve(good)
		d.open()
		d.succeeded(j, puller.SourcePulled)
		_, err := d.Pull(puller.PullRequest{Image: good})
		forbids(t, "a new one", err, "rules.pull.deny")
	})
}
