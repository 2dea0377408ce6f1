// Package api serves Towline's HTTP API, version 1, for a puller.Puller.
//
// A handler's goroutine is the subscriber that it streams to; the package
// starts none of its own.
package api
