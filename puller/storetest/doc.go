// Package storetest has a Store in memory, for tests, and the conformance suite
// that every Store passes.
package storetest
