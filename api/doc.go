// Package api serves Towline's HTTP API, version 1, for a puller.Service.
//
// Before all routes stands a guard, which has package auth find out who asks, and
// knows what each route needs.
//
// A subscriber is one goroutine: the handler's own, or a small one in its place
// once the connection of a stream of events has been taken over from net/http.
// While it keeps up it may sleep, as one of those at its place writes for all.
package api
