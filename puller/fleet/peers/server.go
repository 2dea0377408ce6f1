package peers

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/limits"
	"github.com/towline/towline/puller/fleet/peers/token"
	"github.com/towline/towline/puller/fleet/peers/wire"
	"github.com/towline/towline/puller/mirror/sharing"
)

const (
	// mostConnections is how many connections are open at a time.
	mostConnections = 2048
	// mostRequests is how many requests are answered at a time, and mostOfHost those of one
	// host. A host makes few more than takeAtATime.
	mostRequests, mostOfHost = 256, 48
	// mostSends is how many chunks are sent at a time. Where the rate is limited, it is no
	// more than leave each of them leastSend bytes a second.
	mostSends, leastSend = 64, 512 << 10
	// lookEvery is how often a request that waits is looked at.
	lookEvery = 500 * time.Millisecond
)

// server gives what a host has to others.
type server struct {
	*Node
	host  sharing.Host
	asked *limits.Shares
	sends chan struct{}
}

// serve serves what connects to a listener until ctx ends.
func (n *Node) serve(ctx context.Context, l net.Listener, host sharing.Host) error {
	sends := mostSends
	if n.o.UploadRate > 0 {
		sends = int(max(1, min(mostSends, n.o.UploadRate/leastSend)))
	}
	s := &server{Node: n, host: host, asked: limits.NewShares(mostRequests, mostOfHost), sends: make(chan struct{}, sends)}
	routes := http.NewServeMux()
	routes.HandleFunc("GET "+wire.PathChunks+"{digest}/{index}", s.answer(s.chunk))
	routes.HandleFunc("GET "+wire.PathManifests+"{digest}", s.answer(s.manifest))
	routes.HandleFunc("GET "+wire.PathSums+"{digest}", s.answer(s.sumsOfBlob))
	out := &http.Server{
		Handler:                      routes,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            5 * time.Second,
		IdleTimeout:                  time.Minute,
		MaxHeaderBytes:               8 << 10,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ErrorLog:                     log.New(debug{n.o.Log}, "", 0),
	}
	limited := limits.NewListener(l, mostConnections)
	out.ConnState = limited.Note
	stop := context.AfterFunc(ctx, func() { out.Close() })
	err := out.Serve(limited)
	stop()
	out.Close()
	limited.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("fleet.peer_listen: serve other hosts at %s: %w", l.Addr(), err)
}

// debug logs what net/http says: clients cause most of it.
type debug struct{ log logrus.FieldLogger }

func (d debug) Write(p []byte) (int, error) {
	d.log.Debug("peers: " + strings.TrimSpace(string(p)))
	return len(p), nil
}

// request is what a host with the right token asks for.
type request struct {
	*http.Request
	w        http.ResponseWriter
	host     string // that asks
	image    sharing.Image
	manifest string // that lists the blob
	digest   string // of the blob, or of the manifest that is asked for
}

// only reports whether nothing is to be brought for it.
func (r request) only() bool { return r.Header.Get(wire.HeaderOnly) != "" }

// refusal is why a request is refused.
type refusal struct {
	status int
	reason string // for the metric and the answer
}

func (r refusal) Error() string { return r.reason }

var (
	refusedToken   = refusal{http.StatusForbidden, "token"}
	refusedRequest = refusal{http.StatusBadRequest, "request"}
	refusedContent = refusal{http.StatusNotFound, "content"}
	refusedBusy    = refusal{http.StatusServiceUnavailable, "busy"}
)

// errNothing is that there is nothing of what is asked for, and that nothing is to be brought.
var errNothing = errors.New("nothing of it is here")

// answer checks who asks, and answers what handle returns: nil where it has answered,
// wire.ErrWaiting, or why not.
func (s *server) answer(handle func(request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.timing.answer))
		asked, err := s.check(w, r)
		if err == nil {
			if s.asked.Take(asked.host) {
				defer s.asked.Give(asked.host)
				err = handle(asked)
			} else {
				err = refusedBusy
			}
		}
		if err == nil {
			return
		}
		if r.Context().Err() != nil { // this host ends: an empty answer would be a lie
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		switch {
		case errors.Is(err, wire.ErrWaiting):
			w.WriteHeader(http.StatusAccepted)
			return
		case errors.Is(err, errNothing): // as a refusal, but it is none
			http.Error(w, refusedContent.reason, refusedContent.status)
			return
		}
		var why refusal
		switch {
		case errors.As(err, &why):
		case puller.KindOf(err) == puller.ErrOverloaded:
			why = refusedBusy
		default:
			why = refusedContent
			s.o.Log.WithFields(logrus.Fields{"peer": asked.host, "digest": asked.digest, logrus.ErrorKey: err}).Debug("a host of the fleet was not given what it asked for")
		}
		s.metrics.refused.WithLabelValues(why.reason).Inc()
		if why.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, why.reason, why.status)
	}
}

// check returns what is asked for, if the host that asks has the key of a set that names the
// image.
func (s *server) check(w http.ResponseWriter, r *http.Request) (asked request, err error) {
	h := r.Header
	asked = request{
		Request: r, w: w, host: h.Get(wire.HeaderHost), manifest: h.Get(wire.HeaderManifest), digest: r.PathValue("digest"),
		image: sharing.Image{Repository: h.Get(wire.HeaderRepository), Digest: h.Get(wire.HeaderImage)},
	}
	generation, err := strconv.ParseUint(h.Get(wire.HeaderGeneration), 10, 64)
	switch {
	case err != nil, fleet.CheckHost(asked.host) != nil, r.ContentLength != 0, asked.image.Repository == "":
		return asked, refusedRequest
	case !isDigest(asked.digest), !isDigest(asked.image.Digest), asked.manifest != "" && !isDigest(asked.manifest):
		return asked, refusedRequest
	}
	g, ok := s.o.Groups.Keyed(h.Get(wire.HeaderSet), generation, asked.image.Repository, asked.image.Digest)
	// The comparison takes as long where there is no such set.
	if right := token.Check(g, asked.host, asked.digest, h.Get("Authorization")); !ok || !right {
		return asked, refusedToken
	}
	s.standing.Asks(asked.host)
	return asked, nil
}

func isDigest(s string) bool { return len(s) <= 256 && digest.Digest(s).Validate() == nil }
