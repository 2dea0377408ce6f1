package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"

	"github.com/towline/towline/puller"
)

// decodeRole answers requests for jobs on the socket that is its task, as little as
// net/http lets one do: it decodes the body, keeps nothing, and gives all the same ID.
func decodeRole(orders *bufio.Reader, answers *json.Encoder) error {
	var socket string
	if err := task(orders, &socket); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request puller.PullRequest
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Location", "/v1/jobs/01ARZ3NDEKTSV4RRFFQ69G5FAV")
		w.WriteHeader(http.StatusAccepted)
		io.WriteString(w, `{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}`)
	})}
	go server.Serve(l)
	defer server.Close()
	if err := answers.Encode(true); err != nil {
		return err
	}
	untilEnd(orders)
	return nil
}

// ceiling measures how many requests a second these processors take from as many
// clients, when nothing is done with them.
func ceiling(ctx context.Context, dir string) (_ float64, err error) {
	socket := filepath.Join(dir, "decode.sock")
	c, err := startChild(ctx, "decode", socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	var ready bool
	if err := c.answer(&ready); err != nil {
		return 0, err
	}
	return overHTTP(ctx, socket, 1)
}
