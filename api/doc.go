// Package api serves Towline's HTTP API, version 1, for a puller.Service.
//
// A guard is in front of all routes. It identifies the caller with package auth, and
// checks the scope that the route needs.
//
// Each reader of events has one goroutine: the handler's own, or a small one in
// its place if the connection was hijacked from net/http.
package api
