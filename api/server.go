package api

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/answers"
	"github.com/towline/towline/api/audit"
	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/contract"
	"github.com/towline/towline/api/dockerapi"
	"github.com/towline/towline/api/guard"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/api/limits"
	"github.com/towline/towline/api/streams"
	"github.com/towline/towline/api/ui"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// Server answers the API's requests.
type Server struct {
	jsonAnswers
	puller   puller.Service
	log      logrus.FieldLogger
	audit    audit.Log
	tokens   *auth.Tokens // nil for none
	sessions *auth.Sessions
	files    input.ComposeFiles
	plans    *limits.Work
	table    []route
	mux      *http.ServeMux
	metrics  metrics
	routes   http.Handler
	events   *streams.Events
}

// Options are the options of New.
type Options struct {
	Metrics *prometheus.Registry // of one Server; its own metrics are added to it
	Log     logrus.FieldLogger
	Runs    bool // allows POST /v1/runs
	// Images knows the engine's images; nil for none.
	Images keep.Collector
	// History knows what has become of images; nil for none.
	History keep.History
	// Keeper has sets and leases; nil for none. p then is a Service whose jobs take leases.
	Keeper keep.Service
	// Fleet is the fleet in which this host is; nil for none.
	Fleet fleet.Service

	// Callers on a unix socket have full access. All others need a token, or a
	// certificate that the listener has verified. Open gives everybody full access,
	// for tests.
	Tokens *auth.Tokens // nil for none
	Open   bool
	// Hosts are the names of the daemon on TCP, without ports, beside localhost and
	// the address of the listener.
	Hosts []string
	// Requests is how many requests a second a caller may make over TCP; 0 is without
	// limit.
	Requests int
}

// route is a route with its query parameters. The routes of dockerapi are not among them.
type route struct {
	pattern string // of http.ServeMux
	params  []string
}

// New returns the handler of all routes.
func New(p puller.Service, o Options) *Server {
	s := &Server{
		puller: p, log: o.Log, audit: audit.Log{To: o.Log}, tokens: o.Tokens, sessions: auth.NewSessions(), events: streams.New(p, o.Fleet, o.Log),
		files: input.NewComposeFiles(), plans: limits.NewPlans(), jsonAnswers: jsonAnswers{limits.NewAnswers()},
	}
	k := &keeping{jsonAnswers: s.jsonAnswers, keeper: o.Keeper, images: o.Images, history: o.History, files: s.files, submit: s.submit}
	f := &inFleet{jsonAnswers: s.jsonAnswers, fleet: o.Fleet, files: s.files, audit: s.audit}
	mux := http.NewServeMux()
	s.mux = mux
	add := func(pattern string, h http.Handler, params []string) {
		s.table = append(s.table, route{pattern, params})
		mux.Handle(pattern, h)
	}
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error, params ...string) {
		add(pattern, s.handler(h, params), params)
	}
	handle("POST /v1/pulls", s.createPull, "wait", "every")
	if o.Runs {
		handle("POST /v1/runs", s.createRun, "wait", "every")
	} else {
		handle("POST /v1/runs", s.refuseRun, "wait", "every")
	}
	handle("GET /v1/jobs/{id}/logs", s.events.Output, "stream")
	handle("POST /v1/prewarms", s.createPrewarm, append([]string{"wait", "every", "dry_run"}, composeQuery...)...)
	handle("GET /v1/jobs", s.listJobs, "state", "kind", "image", "limit", "cursor")
	handle("GET /v1/jobs/{id}", s.getJob)
	handle("DELETE /v1/jobs/{id}", s.cancelJob)
	handle("GET /v1/jobs/{id}/events", s.events.OfJob, "since", "every")
	handle("GET /v1/events", s.events.OfAll, "kind", "image", "since", "every")
	handle("GET /v1/images", k.listImages, "owner", "image", "set", "reason", "collectable", "limit", "cursor")
	handle("GET /v1/images/history", k.listChanges, "image", "limit", "cursor")
	handle("POST /v1/collections", k.collect, "dry_run")
	handle("GET /v1/sets", k.withKeeper(k.listSets))
	handle("GET /v1/sets/{name}", k.withKeeper(k.getSet))
	handle("PUT /v1/sets/{name}", k.withKeeper(k.putSet), setQuery...)
	handle("DELETE /v1/sets/{name}", k.withKeeper(k.deleteSet))
	handle("POST /v1/sets/{name}/refresh", k.withKeeper(k.refreshSet), "wait", "every")
	handle("GET /v1/leases", k.withKeeper(k.listLeases), "image", "job", "limit", "cursor")
	handle("POST /v1/leases", k.withKeeper(k.addLease))
	handle("GET /v1/leases/{id}", k.withKeeper(k.getLease))
	handle("PATCH /v1/leases/{id}", k.withKeeper(k.renewLease))
	handle("DELETE /v1/leases/{id}", k.withKeeper(k.endLease))
	handle("GET /v1/fleet", f.getFleet)
	handle("GET /v1/fleet/sets", f.withFleet(f.listFleetSets))
	handle("GET /v1/fleet/sets/{name}", f.withFleet(f.getFleetSet), "state", "limit", "cursor", "wait", "generation")
	handle("PUT /v1/fleet/sets/{name}", f.withFleet(f.putFleetSet), append([]string{"wait"}, fleetSetQuery...)...)
	handle("DELETE /v1/fleet/sets/{name}", f.withFleet(f.deleteFleetSet))
	for _, action := range []fleet.RolloutAction{fleet.ActionPause, fleet.ActionResume, fleet.ActionCancel} {
		handle("POST /v1/fleet/sets/{name}/"+string(action), f.withFleet(f.changeRollout(action)))
	}
	handle("GET /v1/fleet/hosts", f.withFleet(f.listHosts), "label", "live", "limit", "cursor")
	handle("POST /v1/fleet/hosts", f.withFleet(f.inviteHost))
	handle("DELETE /v1/fleet/hosts/{id}", f.withFleet(f.removeHost))
	handle("GET /v1/fleet/events", f.withFleet(s.events.OfFleet), "set")
	handle("GET /v1/engine", s.getEngine)
	handle("GET /v1/queue", s.getQueue)
	handle("GET /healthz", s.health)
	handle("GET /readyz", s.ready)
	add("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}), nil)
	handle("GET /openapi.yaml", contract.ServeDocument)
	handle("GET /docs", contract.ServePage)
	handle("POST /v1/session", s.createSession)
	handle("GET /v1/session", s.getSession)
	handle("DELETE /v1/session", s.endSession)
	handle("GET /{$}", ui.ServePage)
	handle("GET /ui/{file}", dashboardFile)
	s.routes = &guard.Guard{
		Audit: s.audit, Mux: mux, Next: withDocker(&dockerapi.Handler{Service: p, Caller: input.Caller, Problem: answers.DockerProblem, Accepted: s.audit.Accepted}, withProblems(mux)), Tokens: s.tokens, Sessions: s.sessions, Hosts: auth.NewHosts(o.Hosts),
		Requests: limits.NewRequests(o.Requests), Origin: http.NewCrossOriginProtection(), Open: o.Open,
	}
	s.metrics = newMetrics(s, o.Metrics)
	return s
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := connections.Begin(w)
	defer a.End()
	s.metrics.inFlight.Inc()
	begun := time.Now()
	defer func() {
		s.metrics.inFlight.Dec()
		route := s.routeOf(r)
		s.metrics.answered(route, a.Status(), time.Since(begun), isStream(r, route, a))
	}()
	s.routes.ServeHTTP(a, r)
}

// Wait waits for the streams of events on hijacked connections, or for ctx. http.Server
// does not know them any more. They end when the Service closes. Call Wait after that, and
// after http.Server.Shutdown.
func (s *Server) Wait(ctx context.Context) { s.events.Wait(ctx) }

// Streams returns how many streams of events are sent on hijacked connections.
func (s *Server) Streams() int { return s.events.Count() }

// handler refuses query parameters that the route does not have, and answers with the
// error of h. h returns an error only before it has written.
func (s *Server) handler(h func(http.ResponseWriter, *http.Request) error, params []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		err := input.CheckQuery(r, params)
		if err == nil {
			err = h(w, r)
		}
		if err != nil {
			answers.WriteProblem(w, r, answers.ProblemOf(err))
		}
	})
}

// withDocker passes the requests of Docker's clients to docker, and all others to
// next.
func withDocker(docker, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := dockerapi.SplitPath(r.URL.Path); ok {
			docker.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// dashboardFile is GET /ui/{file}.
func dashboardFile(w http.ResponseWriter, r *http.Request) error {
	if err := ui.ServeFile(w, r); err != nil {
		return puller.Errorf(puller.ErrNotFound, "%w", err)
	}
	return nil
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	return s.writeJSON(w, r, http.StatusOK, map[string]string{"status": "ok"})
}
