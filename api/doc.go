// Package api serves Towline's HTTP API, version 1, for a puller.Puller.
//
// Before all routes stands a guard, which finds out who asks and whether they
// may. A handler's goroutine is the subscriber that it streams to; while it
// keeps up it may sleep, as one of those at its place writes for all.
package api
