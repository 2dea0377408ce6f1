package dockerapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Problem is an error in the form of the Docker Engine API.
type Problem struct {
	Status     int
	Message    string        // one line of printable text
	RetryAfter time.Duration // 0 if unknown
}

// Write answers a request with a problem.
func (p Problem) Write(w http.ResponseWriter) {
	setHeader(w.Header())
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	status := p.Status
	if status == http.StatusUnauthorized {
		// Docker's clients take 401 for a registry's answer. They ask the user for
		// a name and a password, and send those.
		status = http.StatusForbidden
	}
	writeJSON(w, status, map[string]string{"message": p.Message})
}

// writeJSON ignores errors of the write: the client has gone.
func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
