package api

import (
	"net/http"
	"strconv"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// leasePage is an answer to GET /v1/leases.
type leasePage struct {
	Leases []keep.Lease `json:"leases"`
	Next   string       `json:"next,omitempty"`
}

func (s *Server) listLeases(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	f := keep.LeaseFilter{Image: q.Get("image"), Job: q.Get("job"), Cursor: q.Get("cursor")}
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n == 0 {
			return invalid("limit: %q is not a number above 0", puller.Clip(v))
		}
		f.Limit = n
	}
	leases, next, err := s.keeper.Leases(f)
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, leasePage{leases, next})
}

// addLease is POST /v1/leases.
func (s *Server) addLease(w http.ResponseWriter, r *http.Request) error {
	var request keep.LeaseRequest
	if err := decodeBody(w, r, &request); err != nil {
		return err
	}
	request.Caller, request.Rules = caller(r)
	lease, err := s.keeper.AddLease(r.Context(), request)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/leases/"+lease.ID)
	return s.writeJSON(w, r, http.StatusCreated, lease)
}

func (s *Server) getLease(w http.ResponseWriter, r *http.Request) error {
	return s.writeLease(w, r)(s.keeper.Lease(r.PathValue("id")))
}

// renewLease is PATCH /v1/leases/{id}.
func (s *Server) renewLease(w http.ResponseWriter, r *http.Request) error {
	var request struct {
		TTL string `json:"ttl"`
	}
	if err := decodeBody(w, r, &request); err != nil {
		return err
	}
	return s.writeLease(w, r)(s.keeper.RenewLease(r.PathValue("id"), request.TTL))
}

func (s *Server) endLease(w http.ResponseWriter, r *http.Request) error {
	return s.writeLease(w, r)(s.keeper.EndLease(r.PathValue("id")))
}

func (s *Server) writeLease(w http.ResponseWriter, r *http.Request) func(keep.Lease, error) error {
	return func(lease keep.Lease, err error) error {
		if err != nil {
			return err
		}
		return s.writeJSON(w, r, http.StatusOK, lease)
	}
}
