// Package api serves Towline's HTTP API, version 1, for a puller.Service.
//
// Before all routes stands a guard, which has package auth find out who asks, and
// knows what each route needs.
//
// Each reader of events has one goroutine: the handler's own, or a small one in
// its place if the connection was hijacked from net/http.
package api
