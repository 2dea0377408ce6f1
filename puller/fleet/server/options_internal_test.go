package server

import (
	"os"
	"strings"
	"testing"

	"github.com/towline/towline/puller/fleet"
)

// The README has the accounts and the permissions as this server makes them.
func TestREADME(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := fleet.Subjects{Fleet: "ci"}
	lines := strings.Split((&Server{subjects: names}).accounts(), "\n")
	for _, subject := range append(names.HostPublish("build-7"), names.HostSubscribe("build-7")...) {
		lines = append(lines, `"`+subject+`"`)
	}
	for _, line := range lines {
		if !strings.Contains(string(page), strings.TrimSpace(line)) {
			t.Errorf("the README has no %s", line)
		}
	}
}
