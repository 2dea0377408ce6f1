package pull

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
)

// built returns the error of a prewarm without the images that services can build, by
// their names: as docker compose pull, it only says that those must be built.
func built(err error, buildable map[string]string, errs io.Writer) error {
	var e *exit.Incomplete
	if !errors.As(err, &e) || len(e.Canceled) > 0 {
		return err
	}
	var failed []puller.ImageState
	var services []string
	for _, s := range e.Failed {
		if mayBeBuilt(s, buildable) {
			services = append(services, buildable[s.Image])
		} else {
			failed = append(failed, s)
		}
	}
	if len(services) == 0 {
		return err
	}
	slices.Sort(services)
	names := strings.Join(services, " ")
	fmt.Fprintln(errs, "towline: "+render.SafeText("the images of these services are not in their registries and must be built: docker compose build "+names))
	if len(failed) == 0 {
		return nil
	}
	return &exit.Incomplete{Images: e.Images, Failed: failed}
}

// mayBeBuilt reports whether an image that failed is not in its registry, and a service
// can build it.
func mayBeBuilt(s puller.ImageState, buildable map[string]string) bool {
	return buildable[s.Image] != "" && (s.Error.Kind == puller.ErrNotFound || s.Error.Kind == puller.ErrDenied)
}
