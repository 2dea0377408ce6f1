package client_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// Programs that send requests neither see nor set what only the daemon knows of them.
func TestRequestsHaveNoFieldsOfTheDaemon(t *testing.T) {
	for _, request := range []any{
		puller.PullRequest{}, puller.RunRequest{}, puller.PrewarmRequest{}, keep.SetRequest{}, keep.LeaseRequest{}, fleet.SetRequest{}, fleet.InviteRequest{},
	} {
		of := reflect.TypeOf(request)
		hidden := 0
		for i := range of.NumField() {
			f := of.Field(i)
			if slices.Contains([]string{"Caller", "Rules", "Withheld", "Skipped"}, f.Name) {
				t.Errorf("%s has the field %s", of, f.Name)
			}
			if f.Anonymous && !f.IsExported() && f.Tag.Get("json") == "-" {
				hidden++
			}
		}
		if hidden != 1 {
			t.Errorf("%s has %d parts of the daemon", of, hidden)
		}
	}
}
