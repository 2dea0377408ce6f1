package api

import (
	"net/http"

	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// setQuery are the query parameters of PUT /v1/sets/{name} with a Compose file.
var setQuery = []string{"profile", "var", "schedule", "timezone", "jitter", "window", "policy", "protect", "priority", "platform"}

// keeping has the routes of sets, leases and images.
type keeping struct {
	jsonAnswers
	keeper  keep.Service   // nil for none
	images  keep.Collector // nil for none
	history keep.History   // nil for none
	files   input.ComposeFiles
	submit  func(w http.ResponseWriter, r *http.Request, accept func() (puller.Job, error)) error
}

// withKeeper answers with ErrNotFound where there are no sets and leases.
func (s *keeping) withKeeper(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.keeper == nil {
			return puller.Errorf(puller.ErrNotFound, "this daemon has no sets and no leases")
		}
		return h(w, r)
	}
}

// setList is an answer to GET /v1/sets.
type setList struct {
	Sets   []keep.Set      `json:"sets"`
	Faults []keep.SetFault `json:"faults,omitempty"`
}

func (s *keeping) listSets(w http.ResponseWriter, r *http.Request) error {
	sets, faults := s.keeper.Sets()
	return s.writeJSON(w, r, http.StatusOK, setList{sets, faults})
}

func (s *keeping) getSet(w http.ResponseWriter, r *http.Request) error {
	return s.writeSet(w, r)(s.keeper.Set(r.PathValue("name")))
}

// putSet is PUT /v1/sets/{name}, with a set in JSON or a Compose file.
func (s *keeping) putSet(w http.ResponseWriter, r *http.Request) error {
	var request keep.SetRequest
	var err error
	if input.IsYAML(r) {
		request, err = composeSet(s.files, w, r)
	} else if err = input.RefuseQuery(r, setQuery); err == nil {
		err = input.Body(w, r, &request)
	}
	if err != nil {
		return err
	}
	request.Caller, request.Rules = input.Caller(r)
	return s.writeSet(w, r)(s.keeper.PutSet(r.PathValue("name"), request))
}

// composeSet reads a Compose file and its query parameters.
func composeSet(files input.ComposeFiles, w http.ResponseWriter, r *http.Request) (keep.SetRequest, error) {
	q := r.URL.Query()
	protect := true
	if q.Get("protect") != "" {
		var err error
		if protect, err = input.IsTrue(r, "protect"); err != nil {
			return keep.SetRequest{}, err
		}
	}
	all, err := files.Read(w, r)
	set := keep.SetRequest{
		Images: all.Images, Platform: all.Platform, Policy: all.Policy, Priority: all.Priority, Protect: &protect,
		Schedule: q.Get("schedule"), Timezone: q.Get("timezone"), Jitter: q.Get("jitter"), Window: q.Get("window"),
	}
	set.Skipped = all.Skipped
	return set, err
}

func (s *keeping) deleteSet(w http.ResponseWriter, r *http.Request) error {
	return s.writeSet(w, r)(s.keeper.DeleteSet(r.PathValue("name")))
}

func (s *keeping) writeSet(w http.ResponseWriter, r *http.Request) func(keep.Set, error) error {
	return func(set keep.Set, err error) error {
		if err != nil {
			return err
		}
		return s.writeJSON(w, r, http.StatusOK, set)
	}
}

// refreshSet is POST /v1/sets/{name}/refresh. It takes no body, or an empty object.
func (s *keeping) refreshSet(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength != 0 {
		if err := input.Body(w, r, new(struct{})); err != nil {
			return err
		}
	}
	return s.submit(w, r, func() (puller.Job, error) { return s.keeper.RefreshSet(r.PathValue("name")) })
}
