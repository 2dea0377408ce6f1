package docker

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
	"github.com/towline/towline/puller/engines"
)

// sharedSizeAPI is the first API version whose list of images says what they share. Before
// it, only the engine's disk usage does.
const sharedSizeAPI = "1.42"

// Images implements engines.Engine.
func (e *Engine) Images(ctx context.Context, shared bool) ([]engines.ImageSummary, error) {
	// With shared, the engine reads the sizes of all its layers.
	ctx, cancel := transport.WithLimit(ctx, transport.WorkLimit)
	defer cancel()
	return transport.Renegotiated(func() ([]engines.ImageSummary, error) {
		list, err := e.listImages(ctx, shared)
		if err != nil {
			return nil, e.conn.Classified(ctx, classify.OpImages, "", err)
		}
		return summaries(list, shared)
	})
}

func (e *Engine) listImages(ctx context.Context, shared bool) ([]image.Summary, error) {
	sdk, err := e.conn.Client(ctx)
	if err != nil {
		return nil, err
	}
	// Intermediate images are listed too: they tell which images others were built from.
	list, err := sdk.ImageList(ctx, image.ListOptions{All: true, SharedSize: shared, Manifests: shared})
	if err != nil || !shared || versions.GreaterThanOrEqualTo(sdk.ClientVersion(), sharedSizeAPI) {
		return list, err
	}
	return list, e.addSharedSizes(ctx, sdk, list)
}

// addSharedSizes fills in what the images of a list share. An engine that is busy with the
// same for another client does not tell.
func (e *Engine) addSharedSizes(ctx context.Context, sdk *client.Client, list []image.Summary) error {
	usage, err := sdk.DiskUsage(ctx, types.DiskUsageOptions{Types: []types.DiskUsageObject{types.ImageObject}})
	if err != nil {
		if ctx.Err() != nil || client.IsErrConnectionFailed(err) {
			return err
		}
		return nil
	}
	sizes := make(map[string]int64, len(usage.Images))
	for _, i := range usage.Images {
		if i != nil {
			sizes[i.ID] = i.SharedSize
		}
	}
	for n := range list {
		list[n].SharedSize = -1
		if size, ok := sizes[list[n].ID]; ok {
			list[n].SharedSize = size
		}
	}
	return nil
}

// summaries returns the images of a list, each once, without intermediate ones.
func summaries(list []image.Summary, shared bool) ([]engines.ImageSummary, error) {
	parents := make(map[string]bool)
	for _, i := range list {
		if i.ParentID != "" {
			parents[i.ParentID] = true
		}
	}
	at := make(map[string]int, len(list))
	found := make([]engines.ImageSummary, 0, len(list))
	for _, i := range list {
		if !isDigest(i.ID) {
			return nil, puller.Errorf(puller.ErrInternal, "%s: %w", classify.OpImages, errNoID(i.ID))
		}
		s := engines.ImageSummary{ID: i.ID, Tags: fullNames(i.RepoTags), Digests: fullNames(i.RepoDigests), Size: max(i.Size, 0), Parent: parents[i.ID]}
		if i.Created > 0 {
			s.Created = time.Unix(i.Created, 0)
		}
		if s.Parent && len(s.Tags)+len(s.Digests) == 0 {
			continue // it is intermediate
		}
		if unique := uniqueSize(i); shared && i.SharedSize >= 0 {
			s.Unique = &unique
		}
		if n, double := at[i.ID]; double {
			found[n].Tags = append(found[n].Tags, s.Tags...)
			found[n].Digests = append(found[n].Digests, s.Digests...)
			continue
		}
		at[i.ID] = len(found)
		found = append(found, s)
	}
	for n := range found {
		for _, names := range []*[]string{&found[n].Tags, &found[n].Digests} {
			slices.Sort(*names)
			*names = slices.Compact(*names)
		}
	}
	return found, nil
}

// uniqueSize returns how many bytes go with an image. The shared size of the containerd
// image store does not count the compressed content, which is shared with the layers.
func uniqueSize(i image.Summary) int64 {
	unique := max(i.Size-i.SharedSize, 0)
	var content, unpacked int64
	for _, m := range i.Manifests {
		if isImage(&m) {
			content += max(m.Size.Content, 0)
			unpacked += max(m.ImageData.Size.Unpacked, 0)
		}
	}
	if content <= 0 || unpacked <= 0 || content > i.Size {
		return unique
	}
	return max(unique-int64(float64(content)*min(float64(i.SharedSize)/float64(unpacked), 1)), 0)
}

// fullNames returns names in full form. Engines write <none> for those that an image does
// not have.
func fullNames(names []string) (all []string) {
	for _, name := range names {
		if strings.HasPrefix(name, "<none>") {
			continue
		}
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			name = named.String()
		}
		all = append(all, name)
	}
	return all
}
