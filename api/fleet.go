package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// noFleet says why a host is in no fleet, and what to do.
const noFleet = "this daemon is in no fleet; set fleet.url or fleet.embedded in its configuration, and start it again"

// withFleet answers with ErrNotFound where the host is in no fleet.
func (s *Server) withFleet(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.fleet == nil {
			return puller.Errorf(puller.ErrNotFound, "%s", noFleet)
		}
		return h(w, r)
	}
}

// getFleet is GET /v1/fleet: how this host stands to its fleet.
func (s *Server) getFleet(w http.ResponseWriter, r *http.Request) error {
	link := fleet.Link{State: fleet.LinkOff, Reason: noFleet}
	if s.fleet != nil {
		link = s.fleet.Link()
	}
	return s.writeJSON(w, r, http.StatusOK, link)
}

// The sizes of pages.
const (
	defaultPage = 100
	mostOfPage  = 1000
)

// pageLimit returns how many a page is to have at most.
func pageLimit(r *http.Request) (int, error) {
	v := r.URL.Query().Get("limit")
	if v == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > mostOfPage {
		return 0, invalid("limit: %q is not a number from 1 to %d", puller.Clip(v), mostOfPage)
	}
	return n, nil
}

// pageOf returns those of all, which are sorted by ID, that come after the cursor of a
// request and are wanted, and the cursor of the next page.
func pageOf[T any](r *http.Request, all []T, id func(T) string, wanted func(T) bool) (page []T, next string, err error) {
	limit, err := pageLimit(r)
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

func (s *Server) listHosts(w http.ResponseWriter, r *http.Request) error {
	labels, err := pairs(r, "label")
	if err != nil {
		return err
	}
	live, err := isTrue(r, "live")
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

// pairs returns a query parameter that is NAME=VALUE and may be repeated.
func pairs(r *http.Request, parameter string) (map[string]string, error) {
	all := make(map[string]string)
	for _, v := range r.URL.Query()[parameter] {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, invalid("%s: %q is not NAME=VALUE", parameter, puller.Clip(v))
		}
		if _, twice := all[name]; twice {
			return nil, invalid("%s: %q is given twice", parameter, puller.Clip(name))
		}
		all[name] = value
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// inviteHost is POST /v1/fleet/hosts.
func (s *Server) inviteHost(w http.ResponseWriter, r *http.Request) error {
	var request fleet.InviteRequest
	if err := decodeBody(w, r, &request); err != nil {
		return err
	}
	request.Caller, _ = caller(r)
	invitation, err := s.fleet.Invite(r.Context(), request)
	if err != nil {
		return err
	}
	s.audit.changed(r, "host", invitation.Host, "host invited to the fleet")
	return s.writeJSON(w, r, http.StatusCreated, invitation)
}

// removeHost is DELETE /v1/fleet/hosts/{id}.
func (s *Server) removeHost(w http.ResponseWriter, r *http.Request) error {
	host, err := s.fleet.RemoveHost(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	s.audit.changed(r, "host", host.ID, "host removed from the fleet")
	return s.writeJSON(w, r, http.StatusOK, host)
}
