package exit

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/explain"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/socket"
	"github.com/towline/towline/puller"
)

// Message returns what a command's error says, "" if all was said before. Each
// fault of a Compose project has its own line.
func Message(err error) string {
	var program Program
	var printed printedError
	if err == nil || Code(err) == CodeInterrupted || errors.As(err, &program) || errors.As(err, &printed) {
		return ""
	}
	var faults compose.Faults
	if errors.As(err, &faults) {
		var lines []string
		for _, fault := range faults {
			lines = append(lines, render.SafeText(fault.Error()))
		}
		return strings.Join(lines, "\ntowline: ")
	}
	text := render.SafeText(err.Error())
	if advice := advice(err); advice != "" {
		text += ". " + render.SafeText(advice)
	}
	for _, line := range jobAdvice(err) {
		text += "\ntowline: " + render.SafeText(line)
	}
	return text
}

// advice says what to do about an error that does not say it itself, "" for most.
func advice(err error) string {
	var unreachable *client.Unreachable
	var several Failures
	switch {
	case errors.As(err, &several):
		for _, e := range several {
			if text := advice(e); text != "" {
				return text
			}
		}
		return ""
	case !errors.As(err, &unreachable):
		return ""
	case errors.Is(err, fs.ErrPermission):
		if path, ok := socket.Path(unreachable.Host); ok {
			if fault := socket.Check(path, "towline serve"); fault != nil && !fault.Missing {
				return fault.Error() + "."
			}
		}
		return `Join the group that owns the socket ("socket_group" in towline.yaml), or run this as root.`
	case errors.Is(err, http.ErrSchemeMismatch):
		return "It has no TLS there: write http:// for its address in --host or TOWLINE_HOST."
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return `Start the daemon with "towline serve", or set --host or TOWLINE_HOST to its address.`
	}
	return ""
}

// jobError is why a job of one image has failed.
type jobError struct {
	error
	kind  puller.ErrorKind
	image string
}

func (e jobError) Unwrap() error { return e.error }

// jobErrors returns those that an error consists of.
func jobErrors(err error) (all []jobError) {
	var one jobError
	var several Failures
	switch {
	case errors.As(err, &several):
		for _, e := range several {
			all = append(all, jobErrors(e)...)
		}
	case errors.As(err, &one):
		all = append(all, one)
	}
	return all
}

// jobAdvice says what mends the failures of jobs, once for each kind.
func jobAdvice(err error) (lines []string) {
	var kinds []puller.ErrorKind
	var denied []string
	for _, e := range jobErrors(err) {
		if !slices.Contains(kinds, e.kind) {
			kinds = append(kinds, e.kind)
		}
		if e.kind == puller.ErrDenied {
			denied = append(denied, e.image)
		}
	}
	for _, kind := range kinds {
		advice := explain.Advice(kind)
		if kind == puller.ErrDenied {
			looked, give := deniedAdvice(err, denied)
			if give != "" {
				lines, advice = append(lines, looked...), give
			}
		}
		if kind != puller.ErrCanceled && advice != "" {
			lines = append(lines, fmt.Sprintf("%s: %s See \"towline explain %s\".", kind, advice, kind))
		}
	}
	return lines
}
