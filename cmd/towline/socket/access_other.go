//go:build !unix

package socket

import "io/fs"

func access(string, fs.FileInfo) *Fault { return nil }

func describe(path string, _ fs.FileInfo) string { return path }

func process() string { return "this process" }
