package client_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What imports the client is not built with the daemon, nor with what the daemon needs.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const ours = "github.com/towline/towline/"
	allowed := []string{
		ours + "api/client", ours + "puller", ours + "puller/credentials", ours + "puller/fleet", ours + "puller/jsontype", ours + "puller/keep", ours + "puller/names",
		ours + "stream", ours + "stream/outputlog", ours + "stream/pullstream", ours + "stream/waiting",
		"github.com/distribution/reference", "github.com/docker/go-units", "github.com/opencontainers/go-digest",
	}
	found := strings.Fields(string(out))
	for _, path := range found {
		if !slices.Contains(allowed, path) {
			t.Errorf("the client imports %s", path)
		}
	}
	if !slices.Contains(found, ours+"api/client") {
		t.Errorf("go list says only %q", found)
	}
}
