package jobs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/enginetest"
)

// An engine's answer to an inspect is believed only as far as it shows what was
// asked for, whichever way the question came.
func TestInspectIncomplete(t *testing.T) {
	t.Parallel()
	image := enginetest.NewImage(good, 1)
	digest := enginetest.Digest(image)
	name, _, _ := strings.Cut(good, ":")
	elsewhere := fmt.Sprintf("sha256:%064x", 99)
	many := func(form string) (all []string) {
		for n := range 100 {
			all = append(all, fmt.Sprintf(form, n))
		}
		return all
	}
	set := func(field string, value any) func(map[string]any) {
		return func(answer map[string]any) { answer[field] = value }
	}
	drop := func(fields ...string) func(map[string]any) {
		return func(answer map[string]any) {
			for _, f := range fields {
				delete(answer, f)
			}
		}
	}
	rootFS := func(layers any) func(map[string]any) {
		return set("RootFS", map[string]any{"Type": "layers", "Layers": layers})
	}
	for _, c := range []struct {
		name string
		lie  func(map[string]any)
		// What follows for a pull of what is present, of a tag and of a digest, and
		// after a pull of the tag; "" that it succeeds.
		tag, digest, pulled puller.ErrorKind
	}{
		{"the truth", func(map[string]any) {}, "", "", ""},
		{"no ID", drop("Id"), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"an empty ID", set("Id", ""), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"no ID, but null", set("Id", nil), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"a name for an ID", set("Id", "alpine:latest"), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"an ID that is too short", set("Id", "sha256:1234"), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"an ID that is no text", set("Id", 17), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"an ID of 16 KB", set("Id", "sha256:"+strings.Repeat("a", 16<<10)), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"no names at all", drop("RepoTags", "RepoDigests"), puller.ErrNotFound, puller.ErrNotFound, puller.ErrTruncated},
		{"null for names", func(a map[string]any) { a["RepoTags"], a["RepoDigests"] = nil, nil }, puller.ErrNotFound, puller.ErrNotFound, puller.ErrTruncated},
		{"no tags", set("RepoTags", []string{}), puller.ErrNotFound, "", puller.ErrTruncated},
		{"another tag", set("RepoTags", []string{name + ":v2"}), puller.ErrNotFound, "", puller.ErrTruncated},
		{"another repository's tag", set("RepoTags", []string{"registry.test/team/good:v1", "good:v1", "registry.test/Good:v1"}), puller.ErrNotFound, "", puller.ErrTruncated},
		{"tags of nothing", set("RepoTags", []string{"<none>:<none>", ""}), puller.ErrNotFound, "", puller.ErrTruncated},
		{"no digests", set("RepoDigests", []string{}), "", puller.ErrNotFound, puller.ErrTruncated},
		{"digests of nothing", set("RepoDigests", []string{"<none>@<none>", "", "@" + digest, name, name + "@", name + "@sha256:1"}), "", puller.ErrNotFound, puller.ErrTruncated},
		{"another digest", set("RepoDigests", []string{name + "@" + elsewhere}), "", puller.ErrNotFound, puller.ErrCorrupt},
		{"another repository's digest", set("RepoDigests", []string{"registry.test/team/good@" + digest}), "", puller.ErrNotFound, puller.ErrTruncated},
		{"a repository's digest whose name ends as this", set("RepoDigests", []string{"evil.test/registry.test/good@" + digest, "xregistry.test/good@" + digest}), "", puller.ErrNotFound, puller.ErrTruncated},
		{"every name twice", func(a map[string]any) {
			a["RepoTags"], a["RepoDigests"] = []string{good, good}, []string{name + "@" + digest, name + "@" + digest}
		}, "", "", ""},
		{"a digest beside others", set("RepoDigests", []string{name + "@" + elsewhere, name + "@" + digest}), "", "", ""},
		{"names without number", func(a map[string]any) {
			a["RepoTags"] = append(many("registry.test/n%d:v1"), good)
			a["RepoDigests"] = append(many("registry.test/n%d@"+digest), name+"@"+digest)
		}, "", "", ""},
		{"one text for the names", set("RepoTags", good), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"no platform", drop("Os", "Architecture", "Variant"), "", "", ""},
		{"a size below zero", set("Size", -1), "", "", ""},
		{"a size that no integer holds", set("Size", 1e30), puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
		{"no size", drop("Size"), "", "", ""},
		{"no layers", drop("RootFS"), "", "", ""},
		{"null for layers", rootFS(nil), "", "", ""},
		{"layers that are none", rootFS([]string{"", "x"}), "", "", ""},
		{"nothing but an ID", func(a map[string]any) {
			for field := range a {
				if field != "Id" {
					delete(a, field)
				}
			}
		}, puller.ErrNotFound, puller.ErrNotFound, puller.ErrTruncated},
		{"nothing", func(a map[string]any) { clear(a) }, puller.ErrInternal, puller.ErrInternal, puller.ErrInternal},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := once
			o.Registry = &fakeRegistry{digest: digest}
			withDaemonOf(t, o, nil, func(d *daemon) {
				d.engine.OnAnswer(func(_ string, answer map[string]any) { c.lie(answer) })
				ends := func(what string, j puller.Job, kind puller.ErrorKind) {
					d.Helper()
					switch v := d.end(j); {
					case v.State == puller.StateSucceeded && kind == "":
						if v.Result.ImageID != image.ID || v.Result.Size < 0 {
							d.Errorf("%s: the result is %+v", what, v.Result)
						}
					case v.State == puller.StateSucceeded || v.Error.Kind != kind || v.Error.Message == "" || len(v.Error.Message) > 8<<10:
						d.Errorf("%s: the job is %s with %+v, %+v, not %q", what, v.State, v.Result, v.Error, kind)
					}
				}
				byDigest := name + "@" + digest
				d.engine.Tag(good, image)
				d.engine.Tag(byDigest, image)
				for ref, kind := range map[string]puller.ErrorKind{good: c.tag, byDigest: c.digest} {
					ends("never "+ref, d.submit(puller.PullRequest{Image: ref, Policy: puller.PolicyNever}), kind)
					ends("missing "+ref, d.submit(puller.PullRequest{Image: ref}), kind) // no pull of it ends well
					plan, err := d.Plan(d.Context(), puller.PrewarmRequest{Policy: puller.PolicyNever, Images: puller.Images{{Image: ref}}})
					if err != nil {
						d.Fatal(err)
					}
					if p := plan.Images[0]; (p.Status == puller.StatusPresent) != (kind == "") || kind != "" && (p.Error == nil || p.Error.Kind != kind) {
						d.Errorf("the plan of %s has it as %+v, %+v", ref, p, p.Error)
					}
					created := d.engine.Counts().Created
					run, err := d.Service.Run(puller.RunRequest{Image: ref, Policy: puller.PolicyNever})
					if err != nil {
						d.Fatal(err)
					}
					ends("run "+ref, run, kind)
					if got := d.engine.Counts().Created - created; (got == 1) != (kind == "") {
						d.Errorf("%d containers were created of %s", got, ref)
					}
				}
				d.engine.Script(good, enginetest.Serve(image))
				ends("always", d.pullAlways(good), c.pulled)
			})
		})
	}
}
