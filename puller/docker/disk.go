package docker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/transport"
)

// containerdRoot is where containerd keeps images that are not in dockerd's directory (containerd's config.toml, "root").
const containerdRoot = "/var/lib/containerd"

// imageDirs are the directories that an engine may keep its images in: one, or two where
// the engine does not say which of them it uses, or none where they are not known.
type imageDirs struct {
	sdk  *client.Client // that the engine was asked with
	dirs []string
}

// Disk implements engines.Engine. It asks the engine once, and the file system each time.
// Of two file systems it is the one with less room.
func (e *Engine) Disk(ctx context.Context) (*puller.Disk, error) {
	dirs, err := e.imageDirs(ctx)
	if err != nil {
		return nil, err
	}
	var least *puller.Disk
	for n, dir := range dirs {
		d, known := fileSystem(dir)
		switch {
		case known && (least == nil || d.Free < least.Free):
			least = &d
		case !known && n == 0:
			return nil, nil
		}
	}
	return least, nil
}

// HasOnDisk reports whether a directory is on the file system that the engine keeps its
// images on, as far as that is known.
func (e *Engine) HasOnDisk(ctx context.Context, dir string) bool {
	dirs, err := e.imageDirs(ctx)
	return err == nil && slices.ContainsFunc(dirs, func(own string) bool { return sameFileSystem(own, dir) })
}

// imageDirs returns the engine's directories. A unix socket can be forwarded from another
// machine, so there are none unless the engine is on a unix socket and reports this
// machine's host name.
func (e *Engine) imageDirs(ctx context.Context) ([]string, error) {
	if !strings.HasPrefix(e.conn.Host(), "unix://") {
		return nil, nil
	}
	if known := e.dirs.Load(); known != nil && e.conn.Is(known.sdk) {
		return known.dirs, nil
	}
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	sdk, info, err := e.conn.SystemInfo(ctx)
	if err != nil {
		return nil, err
	}
	return e.noteDirs(sdk, info), nil
}

// noteDirs keeps the directories that an engine's answer tells.
func (e *Engine) noteDirs(sdk *client.Client, info system.Info) []string {
	var dirs []string
	if host, err := os.Hostname(); err == nil && (info.Name == "" || info.Name == host) && info.DockerRootDir != "" {
		dirs = []string{info.DockerRootDir}
		// A containerd that dockerd started itself has its directory below dockerd's.
		if _, err := os.Stat(filepath.Join(info.DockerRootDir, "containerd/daemon")); imageStore(info) == puller.StoreContainerd && err != nil {
			dirs = append(dirs, containerdRoot)
		}
	}
	e.dirs.Store(&imageDirs{sdk, dirs})
	return dirs
}
