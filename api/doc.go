// Package api serves Towline's HTTP API, version 1, for a puller.Puller.
//
// Before all routes stands a guard, which finds out who asks and whether they
// may. A handler's goroutine is the subscriber that it streams to; the package
// starts none of its own.
package api
