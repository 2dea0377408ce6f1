package api

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// fleetSetQuery are the query parameters of PUT /v1/fleet/sets/{name} with a Compose file.
var fleetSetQuery = append([]string{"host", "canary", "wave", "max_failures", "pause"}, setQuery...)

func (s *inFleet) listFleetSets(w http.ResponseWriter, r *http.Request) error {
	sets, err := s.fleet.Sets()
	if err != nil {
		return err
	}
	if sets == nil {
		sets = []fleet.Set{}
	}
	return s.writeJSON(w, r, http.StatusOK, map[string]any{"sets": sets})
}

// fleetSetPage is an answer to GET /v1/fleet/sets/{name}.
type fleetSetPage struct {
	fleet.Set
	Members []fleet.MemberState `json:"members"`
	Next    string              `json:"next,omitempty"`
}

// getFleetSet is GET /v1/fleet/sets/{name}: a set with a page of its members. With wait, it
// answers when its members have done what they can, as putFleetSet does.
func (s *inFleet) getFleetSet(w http.ResponseWriter, r *http.Request) error {
	name, q := r.PathValue("name"), r.URL.Query()
	waits, err := input.IsTrue(r, "wait")
	if err != nil {
		return err
	}
	var generation uint64
	if v := q.Get("generation"); v != "" {
		if generation, err = strconv.ParseUint(v, 10, 64); err != nil || generation == 0 || !waits {
			return input.Invalid("generation: %q is not the number of a generation to wait for; send it with wait=true", puller.Clip(v))
		}
	}
	wanted := fleet.State(q.Get("state"))
	if wanted != "" && !slices.Contains(fleet.States, wanted) {
		return input.Invalid("state: %q is not known; it is one of proven, pulling, waiting, refused, failed and away", puller.Clip(q.Get("state")))
	}
	set, err := s.fleet.Set(name)
	if err != nil {
		return err
	}
	if waits {
		if generation == 0 {
			generation = set.Generation
		}
		return s.waitForSet(w, r, name, generation)
	}
	page := fleetSetPage{Set: set}
	page.Members, page.Next, err = pageOf(r, set.Members, func(m fleet.MemberState) string { return m.Host }, func(m fleet.MemberState) bool { return wanted == "" || m.State == wanted })
	if err != nil {
		return err
	}
	if answers.WantsText(r) {
		set.Members = page.Members
		writeText(w, http.StatusOK, answers.FleetText(set))
		return nil
	}
	return s.writeJSON(w, r, http.StatusOK, page)
}

// putFleetSet is PUT /v1/fleet/sets/{name}, with a set in JSON or a Compose file.
func (s *inFleet) putFleetSet(w http.ResponseWriter, r *http.Request) error {
	waits, err := input.IsTrue(r, "wait")
	if err != nil {
		return err
	}
	var request fleet.SetRequest
	if input.IsYAML(r) {
		request, err = s.composeFleetSet(w, r)
	} else if err = input.RefuseQuery(r, fleetSetQuery); err == nil {
		err = input.Body(w, r, &request)
	}
	if err != nil {
		return err
	}
	request.Caller, request.Rules = input.Caller(r)
	name := r.PathValue("name")
	set, err := s.fleet.PutSet(r.Context(), name, request)
	if err != nil {
		return err
	}
	s.audit.Changed(r, logrus.Fields{"set": name, "generation": set.Generation, "images": len(set.Images)}, "set of the fleet applied")
	if waits {
		return s.waitForSet(w, r, name, set.Generation)
	}
	return s.writeFleetSet(w, r, set)
}

// composeFleetSet reads a Compose file and its query parameters.
func (s *inFleet) composeFleetSet(w http.ResponseWriter, r *http.Request) (fleet.SetRequest, error) {
	q := r.URL.Query()
	hosts, err := input.Pairs(r, "host")
	if err != nil {
		return fleet.SetRequest{}, err
	}
	set, err := composeSet(s.files, w, r)
	request := fleet.SetRequest{
		Images: set.Images, Platform: set.Platform, Policy: set.Policy, Priority: set.Priority, Protect: set.Protect,
		Schedule: set.Schedule, Timezone: set.Timezone, Jitter: set.Jitter, Window: set.Window, Hosts: hosts,
		Rollout: fleet.RolloutRequest{Canary: q.Get("canary"), Wave: q.Get("wave"), MaxFailures: q.Get("max_failures"), Pause: q.Get("pause")},
	}
	request.Skipped = set.Skipped
	return request, err
}

// waitForSet answers when the members that are there have done for a generation what they
// can: with the set, or with what some have not proven and why.
func (s *inFleet) waitForSet(w http.ResponseWriter, r *http.Request, name string, generation uint64) error {
	set, err := s.fleet.Wait(r.Context(), name, generation)
	switch {
	case r.Context().Err() != nil:
		return nil // the client has gone
	case err != nil:
		if set.Generation != generation {
			set = fleet.Set{} // its members are those of another generation
		}
		answers.WriteProblem(w, r, answers.ProblemOfSet(err, set))
		return nil
	}
	set.Members = nil
	return s.writeFleetSet(w, r, set)
}

// deleteFleetSet is DELETE /v1/fleet/sets/{name}.
func (s *inFleet) deleteFleetSet(w http.ResponseWriter, r *http.Request) error {
	set, err := s.fleet.DeleteSet(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	s.audit.Changed(r, logrus.Fields{"set": set.Name, "generation": set.Generation}, "set of the fleet deleted")
	return s.writeFleetSet(w, r, set)
}

// changeRollout is POST /v1/fleet/sets/{name}/pause, and so on.
func (s *inFleet) changeRollout(action fleet.RolloutAction) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.ContentLength != 0 {
			if err := input.Body(w, r, new(struct{})); err != nil {
				return err
			}
		}
		set, err := s.fleet.ChangeRollout(r.Context(), r.PathValue("name"), action)
		if err != nil {
			return err
		}
		s.audit.Changed(r, logrus.Fields{"set": set.Name, "generation": set.Generation}, "rollout of the fleet: "+string(action))
		return s.writeFleetSet(w, r, set)
	}
}

func (s *inFleet) writeFleetSet(w http.ResponseWriter, r *http.Request, set fleet.Set) error {
	if answers.WantsText(r) {
		writeText(w, http.StatusOK, answers.FleetText(set))
		return nil
	}
	set.Members = nil
	return s.writeJSON(w, r, http.StatusOK, set)
}
