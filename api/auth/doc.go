// Package auth tells who makes a request of the API, by the connection, a token, a
// certificate or a session, and what they may do. It knows no routes: package api
// says what each of them asks for.
package auth
