package api

import (
	"net/http"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/puller"
)

// withProblems answers requests without a route with a problem. ServeMux answers them
// with text.
func withProblems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refusal := refusedRoute{header: make(http.Header)}
		h.ServeHTTP(&refusal, r)
		p := answers.NewProblem(puller.ErrNotFound, "there is no route "+r.Method+" "+r.URL.Path)
		switch {
		case refusal.status == http.StatusMethodNotAllowed:
			allow := refusal.header.Get("Allow")
			w.Header().Set("Allow", allow)
			p = answers.NewProblem(puller.ErrInvalidRequest, r.Method+" is not for "+r.URL.Path+"; it takes "+allow)
			p.Status, p.Title = http.StatusMethodNotAllowed, "The method is not allowed"
		case refusal.status/100 == 3: // the path is not clean
			w.Header().Set("Location", refusal.header.Get("Location"))
			w.WriteHeader(refusal.status)
			return
		}
		answers.WriteProblem(w, r, p)
	})
}

// refusedRoute records an answer of ServeMux itself.
type refusedRoute struct {
	header http.Header
	status int
}

func (r *refusedRoute) Header() http.Header         { return r.header }
func (r *refusedRoute) WriteHeader(status int)      { r.status = status }
func (r *refusedRoute) Write(b []byte) (int, error) { return len(b), nil }
