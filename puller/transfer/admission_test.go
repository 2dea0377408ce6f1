package transfer_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/transfer"
)

// admission admits unless it has an error, and notes what is released.
type admission struct {
	err      error
	asked    []puller.Pull
	released []string // IDs
}

func (a *admission) Admit(_ context.Context, p puller.Pull, notice func(string)) (func(puller.Image), error) {
	a.asked = append(a.asked, p)
	notice("a notice of the admission")
	if a.err != nil {
		return nil, a.err
	}
	return func(i puller.Image) { a.released = append(a.released, i.ID) }, nil
}

func TestAdmission(t *testing.T) {
	pull := puller.Pull{Image: image}
	for _, c := range []struct {
		name  string
		err   error
		fails int
		want  admission
		pulls int
	}{
		{"admitted", nil, 0, admission{asked: []puller.Pull{pull}, released: []string{"sha256:1"}}, 1},
		{"retried", nil, 1, admission{asked: []puller.Pull{pull, pull}, released: []string{"", "sha256:1"}}, 2},
		{"refused", puller.Errorf(puller.ErrNoSpace, "no room"), 0, admission{asked: []puller.Pull{pull}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, a := &engine{fails: c.fails}, &admission{err: c.err}
			withOptions(t, e, func(o *transfer.Options) { o.Admission = a }, func(t *testing.T, s *transfer.Transfers) {
				sub := join(t, s, request(puller.PolicyMissing, 1), 0)
				<-sub.over
				synctest.Wait()
				if puller.KindOf(sub.err) != puller.KindOf(c.err) || e.pulls != c.pulls {
					t.Errorf("after %d pulls it ended with %v", e.pulls, sub.err)
				}
				if diff := cmp.Diff(c.want.asked, a.asked, cmp.AllowUnexported(puller.Credentials{})); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(c.want.released, a.released); diff != "" {
					t.Error(diff)
				}
				if n := strings.Count(strings.Join(sub.notices, "\n"), "a notice of the admission"); n != 1 {
					t.Errorf("the admission is heard %d times: %q", n, sub.notices)
				}
			})
		})
	}
}
