package api

import (
	"strings"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
)

// Routes returns the routes of a server with their query parameters. The mark of
// http.ServeMux for the end of a path is left out.
func (s *Server) Routes() map[string][]string {
	all := make(map[string][]string)
	for _, r := range s.table {
		all[strings.TrimSuffix(r.pattern, "{$}")] = r.params
	}
	return all
}

// Statuses returns the status of each error kind.
func Statuses() map[string]int {
	all := make(map[string]int)
	for _, kind := range puller.ErrorKinds() {
		if p := answers.NewProblem(kind, ""); p.Kind == kind {
			all[string(kind)] = p.Status
		}
	}
	return all
}

// Anyone is the scope of a route for everybody.
const Anyone = auth.Anyone
