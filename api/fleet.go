package api

import (
	"net/http"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/audit"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// noFleet says why a host is in no fleet, and what to do.
const noFleet = "this daemon is in no fleet; set fleet.url or fleet.embedded in its configuration, and start it again"

// inFleet has the routes of the fleet.
type inFleet struct {
	jsonAnswers
	fleet fleet.Service // nil for none
	files input.ComposeFiles
	audit audit.Log
}

// withFleet answers with ErrNotFound where the host is in no fleet.
func (s *inFleet) withFleet(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.fleet == nil {
			return puller.Errorf(puller.ErrNotFound, "%s", noFleet)
		}
		return h(w, r)
	}
}

// getFleet is GET /v1/fleet: how this host stands to its fleet.
func (s *inFleet) getFleet(w http.ResponseWriter, r *http.Request) error {
	link := fleet.Link{State: fleet.LinkOff, Reason: noFleet}
	if s.fleet != nil {
		link = s.fleet.Link()
	}
	return s.writeJSON(w, r, http.StatusOK, link)
}

// pageOf returns those of all, which are sorted by ID, that come after the cursor of a
// request and are wanted, and the cursor of the next page.
func pageOf[T any](r *http.Request, all []T, id func(T) string, wanted func(T) bool) (page []T, next string, err error) {
	limit, err := input.PageLimit(r)
	if err != nil {
		return nil, "", err
	}
	cursor := r.URL.Query().Get("cursor")
	page = []T{}
	for _, one := range all {
		switch {
		case cursor != "" && id(one) <= cursor, !wanted(one):
		case len(page) == limit:
			return page, id(page[limit-1]), nil
		default:
			page = append(page, one)
		}
	}
	return page, "", nil
}

// hostPage is an answer to GET /v1/fleet/hosts.
type hostPage struct {
	Hosts []fleet.Host `json:"hosts"`
	Next  string       `json:"next,omitempty"`
	// Of all hosts that match, also of other pages.
	Total int `json:"total"`
	Live  int `json:"live"`
}

func (s *inFleet) listHosts(w http.ResponseWriter, r *http.Request) error {
	labels, err := input.Pairs(r, "label")
	if err != nil {
		return err
	}
	live, err := input.IsTrue(r, "live")
	if err != nil {
		return err
	}
	all, err := s.fleet.Hosts()
	if err != nil {
		return err
	}
	answer := hostPage{}
	matching := slices.DeleteFunc(all, func(h fleet.Host) bool {
		for name, value := range labels {
			if h.Labels[name] != value {
				return true
			}
		}
		return r.URL.Query().Get("live") != "" && h.Live != live
	})
	answer.Total = len(matching)
	for _, h := range matching {
		if h.Live {
			answer.Live++
		}
	}
	answer.Hosts, answer.Next, err = pageOf(r, matching, func(h fleet.Host) string { return h.ID }, func(fleet.Host) bool { return true })
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, answer)
}

// inviteHost is POST /v1/fleet/hosts.
func (s *inFleet) inviteHost(w http.ResponseWriter, r *http.Request) error {
	var request fleet.InviteRequest
	if err := input.Body(w, r, &request); err != nil {
		return err
	}
	request.Caller, _ = input.Caller(r)
	invitation, err := s.fleet.Invite(r.Context(), request)
	if err != nil {
		return err
	}
	s.audit.Changed(r, logrus.Fields{"host": invitation.Host}, "host invited to the fleet")
	return s.writeJSON(w, r, http.StatusCreated, invitation)
}

// removeHost is DELETE /v1/fleet/hosts/{id}.
func (s *inFleet) removeHost(w http.ResponseWriter, r *http.Request) error {
	host, err := s.fleet.RemoveHost(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	s.audit.Changed(r, logrus.Fields{"host": host.ID}, "host removed from the fleet")
	return s.writeJSON(w, r, http.StatusOK, host)
}
