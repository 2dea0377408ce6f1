// Package render writes jobs, events and plans for a terminal, a log or another
// program.
//
// Names and messages come from registries, engines, programs and daemons.
// [SafeText], [SafeWriter] and [NewJSON] keep them from controlling the terminal.
package render
