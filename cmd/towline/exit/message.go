package exit

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/cmd/towline/socket"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/registry/login"
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
	if advice := deniedAdvice(deniedImages(err)); advice != "" {
		text += "\ntowline: " + render.SafeText(advice)
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
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return `Start the daemon with "towline serve", or set --host or TOWLINE_HOST to its address.`
	}
	return ""
}

// deniedError is a registry's refusal of an image.
type deniedError struct {
	error
	image string
}

func (e deniedError) Unwrap() error { return e.error }

// deniedAdvice says where logins for the registries of images were looked for, and how
// to give one. "" for no image.
func deniedAdvice(images []string) string {
	var registries []string
	for _, image := range images {
		if _, named, err := puller.ParseImage(image); err == nil && named != nil {
			registries = append(registries, names.RegistryOf(named.String()))
		}
	}
	slices.Sort(registries)
	if registries = slices.Compact(registries); len(registries) == 0 {
		return ""
	}
	names := puller.Listed(registries)
	return fmt.Sprintf("A login for %s was looked for by this command in %s (unless --no-credentials is set), and by the daemon in its registries.credentials and its user's Docker configuration. "+
		"Check the name of the image, or give a login in one of three ways: run \"docker login %s\" and then this command again; set registries.credentials in the daemon's towline.yaml; or send X-Registry-Auth with a call over HTTP.",
		names, strings.Join(login.Sources(), ", "), registries[0])
}

// deniedImages returns the images that registries have refused.
func deniedImages(err error) (images []string) {
	var denied deniedError
	var several Failures
	switch {
	case errors.As(err, &several):
		for _, e := range several {
			images = append(images, deniedImages(e)...)
		}
	case errors.As(err, &denied):
		images = append(images, denied.image)
	}
	return images
}
