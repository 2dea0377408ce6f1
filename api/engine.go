package api

import (
	"context"
	"net/http"
	"time"

	"github.com/towline/towline/puller"
)

// engineLimit is how long the engine may take to answer.
const engineLimit = 3 * time.Second

func (s *Server) getEngine(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), engineLimit)
	defer cancel()
	info, err := s.puller.Engine(ctx)
	if err != nil {
		s.log.WithError(err).Debug("the engine did not answer")
	}
	return s.writeJSON(w, r, http.StatusOK, info)
}

// getQueue is GET /v1/queue.
func (s *Server) getQueue(w http.ResponseWriter, r *http.Request) error {
	return s.writeJSON(w, r, http.StatusOK, s.puller.Queue())
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), engineLimit)
	defer cancel()
	if _, err := s.puller.Engine(ctx); err != nil {
		return puller.Errorf(puller.ErrEngineUnavailable, "%w", err)
	}
	if err := s.puller.Ready(); err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, map[string]string{"status": "ready"})
}
