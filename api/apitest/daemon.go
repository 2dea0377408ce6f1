// Package apitest serves Towline's API over a scripted engine, for tests.
package apitest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/go-connections/sockets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api"
	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/api/contract/contracttest"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/enginetest"
	"github.com/towline/towline/puller/jobs"
	"github.com/towline/towline/puller/keep/history"
	"github.com/towline/towline/puller/keep/keeper"
	"github.com/towline/towline/puller/keep/lease"
	"github.com/towline/towline/puller/keep/sets"
	"github.com/towline/towline/puller/storetest"
)

// Daemon is all of Towline's API over a scripted engine. Callers have full access. What
// they send and get is compared with the contract.
type Daemon struct {
	T       *testing.T
	Engine  *enginetest.Engine
	Service *jobs.Service
	History *history.History
	Server  *api.Server
	Client  *http.Client // follows no redirect
	URL     string
	Logs    *Log

	opened atomic.Int64 // requests whose handler runs
}

// Start serves the API over TCP until the test ends.
func Start(t *testing.T, change ...func(*jobs.Options)) *Daemon {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, l, (&net.Dialer{}).DialContext, change)
}

// StartInMemory serves the API on connections in memory, for tests in a synctest bubble.
func StartInMemory(t *testing.T, change ...func(*jobs.Options)) *Daemon {
	t.Helper()
	l := sockets.NewInmemSocket("towline", 0)
	return startOn(t, l, l.DialContext, change)
}

func startOn(t *testing.T, l net.Listener, dial func(context.Context, string, string) (net.Conn, error), change []func(*jobs.Options)) *Daemon {
	t.Helper()
	d := &Daemon{T: t, Engine: enginetest.New(t), URL: "http://" + l.Addr().String(), Logs: &Log{}}
	log := logrus.New()
	log.SetOutput(d.Logs)
	log.SetLevel(logrus.TraceLevel)
	metrics := prometheus.NewRegistry()
	engine, err := docker.New(docker.Options{Host: "unix:///scripted", Dial: d.Engine.Dial, Log: log, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	store := storetest.New()
	options := jobs.Options{Concurrency: 8, Policy: puller.PolicyMissing, Timeout: time.Hour, Store: store, Log: log, Metrics: metrics}
	for _, c := range change {
		c(&options)
	}
	if d.History, err = history.Open(history.Options{Records: store.Records(), Log: log}); err != nil {
		t.Fatal(err)
	}
	if d.Service, err = jobs.New(engine, options); err != nil {
		t.Fatal(err)
	}
	d.History.Begin(d.Service.Events())
	// Nothing runs them: sets are refreshed by calls, and leases do not end.
	leases, err := lease.Open(lease.Options{Service: d.Service, Records: store.Records(), Log: log, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	warm, err := sets.Open(sets.Options{Service: d.Service, Engine: engine, Records: store.Records(), Log: log, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	d.Server = api.New(leases.Jobs(), api.Options{Metrics: metrics, Log: log, Runs: true, Open: true, History: d.History, Keeper: keeper.New(warm, leases)})
	compared := contracttest.Wrap(t, d.Server)
	server := connections.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.opened.Add(1)
		defer d.opened.Add(-1)
		compared.ServeHTTP(w, r)
	}))
	var open sync.WaitGroup
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Done()
		}
	}
	transport := &http.Transport{DialContext: dial}
	d.Client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		d.ShutDown()
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
		open.Wait()
		d.Server.Wait(context.Background())
		engine.Close()
	})
	return d
}

// ShutDown ends all jobs, as the daemon's end does.
func (d *Daemon) ShutDown() {
	d.T.Helper()
	if err := d.Service.Close(context.Background()); err != nil {
		d.T.Error(err)
	}
}

// Open returns how many requests are being answered.
func (d *Daemon) Open() int { return int(d.opened.Load()) + d.Server.Streams() }

// RegistryAuth is an X-Registry-Auth header.
func RegistryAuth(user, password string) string {
	raw, _ := json.Marshal(map[string]string{"username": user, "password": password})
	return base64.URLEncoding.EncodeToString(raw)
}

// Log takes log lines from any goroutine.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
