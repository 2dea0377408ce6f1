package api

import (
	"net/http"

	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller/keep"
)

// leasePage is an answer to GET /v1/leases.
type leasePage struct {
	Leases []keep.Lease `json:"leases"`
	Next   string       `json:"next,omitempty"`
}

func (s *keeping) listLeases(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f := keep.LeaseFilter{Image: q.Get("image"), Job: q.Get("job"), Cursor: q.Get("cursor")}
	limit, err := input.Limit(r)
	if err != nil {
		return err
	}
	f.Limit = limit
	leases, next, err := s.keeper.Leases(f)
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, leasePage{leases, next})
}

// addLease is POST /v1/leases.
func (s *keeping) addLease(w http.ResponseWriter, r *http.Request) error {
	var request keep.LeaseRequest
	if err := input.Body(w, r, &request); err != nil {
		return err
	}
	request.Caller, request.Rules = input.Caller(r)
	lease, err := s.keeper.AddLease(r.Context(), request)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/leases/"+lease.ID)
	return s.writeJSON(w, r, http.StatusCreated, lease)
}

func (s *keeping) getLease(w http.ResponseWriter, r *http.Request) error {
	return s.writeLease(w, r)(s.keeper.Lease(r.PathValue("id")))
}

// renewLease is PATCH /v1/leases/{id}.
func (s *keeping) renewLease(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		TTL string `json:"ttl"`
	}
	if err := input.Body(w, r, &request); err != nil {
		return err
	}
	return s.writeLease(w, r)(s.keeper.RenewLease(r.PathValue("id"), request.TTL))
}

func (s *keeping) endLease(w http.ResponseWriter, r *http.Request) error {
	return s.writeLease(w, r)(s.keeper.EndLease(r.PathValue("id")))
}

func (s *keeping) writeLease(w http.ResponseWriter, r *http.Request) func(keep.Lease, error) error {
	return func(lease keep.Lease, err error) error {
		if err != nil {
			return err
		}
		return s.writeJSON(w, r, http.StatusOK, lease)
	}
}
