package api

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

	retryAfter time.Duration
	ended      *puller.Job // the job that failed, if that is the problem
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

func problem(kind puller.ErrorKind, detail string) Problem {
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

func problemOf(err error) Problem {
	p := problem(puller.KindOf(err), err.Error())
	var e *puller.Error
	if errors.As(err, &e) {
		p.retryAfter = e.RetryAfter
	}
	return p
}

// problemOfJob is the problem of a job that ended without success.
func problemOfJob(j puller.Job) Problem {
	p := problem(j.Error.Kind, j.Error.Message)
	p.Job, p.ended = j.ID, &j
	p.retryAfter = time.Duration(j.Error.RetryAfterSeconds * float64(time.Second))
	return p
}

func writeProblem(w http.ResponseWriter, r *http.Request, p Problem) {
	if wantsText(r) {
		w.Header().Set("Content-Type", plainText)
		p.writeHead(w)
		io.WriteString(w, p.text())
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	p.writeHead(w)
	json.NewEncoder(w).Encode(p)
}

// dockerProblem is problemOf for Docker's clients.
func dockerProblem(err error) dockerapi.Problem { return problemOf(err).docker() }

func (p Problem) docker() dockerapi.Problem {
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

// largeAnswer is how many bytes an answer may have that does not count as large.
const largeAnswer = 64 << 10

// writeJSON answers a request. The error is ErrOverloaded if clients have not read too
// many large answers yet.
func (s *Server) writeJSON(w http.ResponseWriter, r *http.Request, status int, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if len(raw) > largeAnswer {
		name, _ := caller(r)
		release, ok := s.answers.TryAcquire(name, int64(len(raw)))
		if !ok {
			e := puller.Errorf(puller.ErrOverloaded, "the answer has %d bytes, and too many such answers are not read yet; read them, or try again later", len(raw))
			e.RetryAfter = time.Second
			return e
		}
		defer release()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(raw, '\n')) // an error says that the client has gone
	return nil
}

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
		p := problem(puller.ErrNotFound, "there is no route "+r.Method+" "+r.URL.Path)
		switch {
		case refusal.status == http.StatusMethodNotAllowed:
			allow := refusal.header.Get("Allow")
			w.Header().Set("Allow", allow)
			p = problem(puller.ErrInvalidRequest, r.Method+" is not for "+r.URL.Path+"; it takes "+allow)
			p.Status, p.Title = http.StatusMethodNotAllowed, "The method is not allowed"
		case refusal.status/100 == 3: // the path is not clean
			w.Header().Set("Location", refusal.header.Get("Location"))
			w.WriteHeader(refusal.status)
			return
		}
		writeProblem(w, r, p)
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
