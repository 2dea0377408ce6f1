// Package answers has the forms of the API's answers that are no plain JSON: problems,
// and text for people.
package answers

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/towline/towline/api/dockerapi"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// Problem is the body of every answer that is an error (RFC 9457).
type Problem struct {
	Type      string           `json:"type"`
	Title     string           `json:"title"`
	Status    int              `json:"status"`
	Detail    string           `json:"detail"`
	Kind      puller.ErrorKind `json:"kind"`
	Retryable bool             `json:"retryable"`
	Job       string           `json:"job,omitempty"` // the ID of the job that failed
	// Members are those that have not proven a set of the fleet, at most maxMembers.
	Members []fleet.MemberState `json:"members,omitempty"`

	retryAfter time.Duration
	ended      *puller.Job // the job that failed, if that is the problem
	lines      string      // of the set that was not proven, if that is the problem
}

// kinds is the only table of the statuses of error kinds.
var kinds = map[puller.ErrorKind]struct {
	status int
	title  string
}{
	puller.ErrInvalidRequest:      {http.StatusBadRequest, "The request is not valid"},
	puller.ErrUnauthorized:        {http.StatusUnauthorized, "The caller is not known"},
	puller.ErrForbidden:           {http.StatusForbidden, "Towline's rules forbid it"},
	puller.ErrDenied:              {http.StatusForbidden, "The registry denied access"},
	puller.ErrNotFound:            {http.StatusNotFound, "Not found"},
	puller.ErrConflict:            {http.StatusConflict, "It conflicts with the present state"},
	puller.ErrCanceled:            {http.StatusConflict, "The job was canceled"},
	puller.ErrPlatformMismatch:    {http.StatusUnprocessableEntity, "The image is not there for the platform"},
	puller.ErrRateLimited:         {http.StatusTooManyRequests, "The registry limits the rate"},
	puller.ErrEngineUnavailable:   {http.StatusServiceUnavailable, "The engine does not answer"},
	puller.ErrRegistryUnavailable: {http.StatusBadGateway, "The registry does not answer as it should"},
	puller.ErrTruncated:           {http.StatusBadGateway, "The pull ended before its end"},
	puller.ErrCorrupt:             {http.StatusBadGateway, "What arrived is not what was announced"},
	puller.ErrStalled:             {http.StatusGatewayTimeout, "The pull stood still"},
	puller.ErrTimeout:             {http.StatusGatewayTimeout, "The time was up"},
	puller.ErrNoSpace:             {http.StatusInsufficientStorage, "The engine has no space left"},
	puller.ErrOverloaded:          {http.StatusServiceUnavailable, "Towline takes no more at present"},
	puller.ErrInternal:            {http.StatusInternalServerError, "It failed for another reason"},
}

// NewProblem returns a problem of a kind. A kind that is not known is ErrInternal.
func NewProblem(kind puller.ErrorKind, detail string) Problem {
	k, ok := kinds[kind]
	if !ok {
		kind, k = puller.ErrInternal, kinds[puller.ErrInternal]
	}
	return Problem{
		Type: "urn:towline:problem:" + string(kind), Title: k.title, Status: k.status,
		Detail: printable(detail), Kind: kind, Retryable: kind.Retryable(),
	}
}

// maxDetail is how many bytes the detail of a problem may have.
const maxDetail = 2 << 10

// printable returns the text of an error as one line of at most maxDetail bytes without
// control characters. Parts of the text come from callers, registries and engines, and a
// terminal or a log may show it.
func printable(detail string) string {
	shown := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return unicode.ReplacementChar
	}, detail[:min(len(detail), maxDetail)])
	if len(detail) <= maxDetail && len(shown) <= maxDetail {
		return shown
	}
	// A replaced byte has become a character of three bytes.
	return strings.ToValidUTF8(shown[:min(len(shown), maxDetail)], "") + "…"
}

// ProblemOf returns the problem that an error is.
func ProblemOf(err error) Problem {
	p := NewProblem(puller.KindOf(err), err.Error())
	var e *puller.Error
	if errors.As(err, &e) {
		p.retryAfter = e.RetryAfter
	}
	return p
}

// ProblemOfJob is the problem of a job that ended without success.
func ProblemOfJob(j puller.Job) Problem {
	p := NewProblem(j.Error.Kind, j.Error.Message)
	p.Job, p.ended = j.ID, &j
	p.retryAfter = time.Duration(j.Error.RetryAfterSeconds * float64(time.Second))
	return p
}

// WriteProblem answers with a problem, in the form that the caller accepts.
func WriteProblem(w http.ResponseWriter, r *http.Request, p Problem) {
	if WantsText(r) {
		w.Header().Set("Content-Type", PlainText)
		p.writeHead(w)
		io.WriteString(w, p.text())
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	p.writeHead(w)
	json.NewEncoder(w).Encode(p)
}

// DockerProblem is ProblemOf for Docker's clients.
func DockerProblem(err error) dockerapi.Problem { return ProblemOf(err).Docker() }

// Docker returns a problem in the form of Docker's API.
func (p Problem) Docker() dockerapi.Problem {
	return dockerapi.Problem{Status: p.Status, Message: p.Detail, RetryAfter: p.retryAfter}
}

func (p Problem) writeHead(w http.ResponseWriter) {
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="towline"`)
	}
	w.WriteHeader(p.Status)
}
