package integration_test

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

// A run of an index is of the platform's image, in whatever form that is asked for. All
// the images hold a program for this machine, and exit as their configurations say.
func TestRunPlatformOfIndex(t *testing.T) {
	lab.Need(t, site.err)
	program, err := buildActor()
	if err != nil {
		t.Fatal(err)
	}
	own := "linux/" + runtime.GOARCH
	exits := map[string]int{own: 3, "linux/arm/v7": 4}
	manifests := make(map[string]string)
	var index v1.ImageIndex = empty.Index
	for platform, code := range exits {
		image, err := lab.BinaryImage(program, platform)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.Config.Cmd = []string{fmt.Sprintf("exit=%d", code)}
		if image, err = mutate.ConfigFile(image, config); err != nil {
			t.Fatal(err)
		}
		digest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		manifests[platform] = digest.String()
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: p}})
	}
	digest, err := site.registry.Push(t.Context(), "forms", "v1", index)
	if err != nil {
		t.Fatal(err)
	}
	tag, name := site.registry.Ref("forms", "v1"), site.registry.Addr()+"/forms"
	d, _ := daemon(t)
	for _, platform := range []string{"", "linux/arm/v7"} {
		want := platform
		if platform == "" {
			want = own
		}
		for _, image := range []string{tag, name + "@" + digest, name + "@" + manifests[want], tag + "@" + digest} {
			stored := strings.Replace(image, ":v1@", "@", 1) // engines keep no tag beside a digest
			policies := []puller.Policy{puller.PolicyMissing}
			if image == tag {
				policies = append(policies, puller.PolicyNever)
			}
			for _, policy := range policies {
				cmd := exec.CommandContext(t.Context(), site.bin, "--host", d.Host, "run", "-q", "--network", "none", "--policy", string(policy), "--platform", platform, image)
				out, _ := cmd.CombinedOutput()
				if got := cmd.ProcessState.ExitCode(); got != exits[want] {
					t.Errorf("%s for %q, %s: it exited with %d, not %d: %s", image, platform, policy, got, exits[want], out)
				}
			}
			remove(t, stored)
		}
	}
	checkNoContainers(t, site.engine)
}
