package exit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/registry/login"
)

// Logins are the caller's Docker logins that a command has sent.
type Logins struct {
	Sent []puller.Credentials
	// None is why no login was sent, whether there is one or not: "--no-credentials". It is
	// "" where all were sent that were found.
	None string
}

// Explain returns an error whose message says of images that were denied what became of
// the logins.
func (l Logins) Explain(err error) error {
	if err == nil {
		return nil
	}
	return loginError{err, l}
}

// sent reports whether there was a login for an image.
func (l Logins) sent(image reference.Named) bool {
	return slices.ContainsFunc(l.Sent, func(c puller.Credentials) bool { return c.For(image) != (puller.Credentials{}) })
}

type loginError struct {
	error
	logins Logins
}

func (e loginError) Unwrap() error { return e.error }

// deniedAdvice says which logins the registries of images were shown, and how to give one.
// give is "" for images that name no registry.
func deniedAdvice(err error, images []string) (shown []string, give string) {
	var own loginError
	known := errors.As(err, &own)
	var refused, without []string
	for _, image := range images {
		_, named, err := puller.ParseImage(image)
		switch {
		case err != nil || named == nil:
		case own.logins.sent(named):
			refused = append(refused, names.RegistryOf(named.String()))
		default:
			without = append(without, names.RegistryOf(named.String()))
		}
	}
	refused, without = distinct(refused), distinct(without)
	all := distinct(slices.Concat(refused, without))
	if len(all) == 0 {
		return nil, ""
	}
	sources := strings.Join(login.Sources(), ", ")
	if len(refused) > 0 {
		shown = append(shown, fmt.Sprintf("This command sent your login for %s, from %s. It was refused: it is wrong or too old, or may not read this image.", puller.Listed(refused), sources))
	}
	const daemon = "The daemon looked in its registries.credentials and in its user's Docker configuration."
	switch {
	case len(without) == 0:
	case !known:
		shown = append(shown, "No login came with the call, or it was refused. "+daemon)
	case own.logins.None != "":
		shown = append(shown, fmt.Sprintf("This command sent no login for %s, because of %s. %s", puller.Listed(without), own.logins.None, daemon))
	default:
		shown = append(shown, fmt.Sprintf("This command found no login for %s in %s. %s", puller.Listed(without), sources, daemon))
	}
	return shown, fmt.Sprintf("check the name of the image, or give a login in one of three ways: run \"docker login %s\" and then this command again; set registries.credentials in the daemon's towline.yaml; or send X-Registry-Auth with a call over HTTP.", all[0])
}

func distinct(registries []string) []string {
	slices.Sort(registries)
	return slices.Compact(registries)
}
