package compose

import (
	"context"
	"strings"
)

// remote is a loader that refuses the files that docker compose would fetch.
type remote struct{}

func (remote) Accept(path string) bool { return isRemote(path) }

func (remote) Load(_ context.Context, path string) (string, error) { return "", remoteFile(path) }

func (remote) Dir(path string) string { return path }

// isRemote reports whether docker compose would fetch a file: from a Git
// repository, or from a registry.
func isRemote(path string) bool {
	return strings.Contains(path, "://") || strings.HasPrefix(path, "git@") || strings.HasPrefix(path, "github.com/")
}

func remoteFile(path string) error {
	return invalid("%q is a remote file, which Towline does not fetch; send the output of docker compose config", clip(path))
}
