package command

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep/setfile"
)

// ReadSet reads a file of a set, or the standard input for "-", into fields, as
// [setfile.ParseInto] does. A Compose file is read where it is, with its variables: listed is
// what its services ask for; else it is nil.
func ReadSet(ctx context.Context, f *Flags, cmd *cobra.Command, path string, fields any, profiles *[]string) (listed *puller.PrewarmRequest, err error) {
	var content []byte
	if path == "-" {
		content, err = io.ReadAll(cmd.InOrStdin())
	} else {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "%w", err)
	}
	listed, err = setfile.ParseInto(ctx, content, fields, profiles, func(ctx context.Context, content []byte, profiles []string) (puller.PrewarmRequest, error) {
		if path == "-" {
			return compose.Parse(ctx, content, nil, profiles)
		}
		defer RedirectWarnings(cmd.ErrOrStderr(), f.Quiet)()
		project, err := compose.Load(ctx, compose.Source{Files: []string{path}, Profiles: profiles})
		return project.PrewarmRequest, err
	})
	var known *puller.Error
	if err != nil && !errors.As(err, &known) {
		err = puller.Errorf(puller.ErrInvalidRequest, "%s: %w", path, err)
	}
	return listed, err
}
