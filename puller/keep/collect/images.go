package collect

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
)

// Images implements keep.Collector.
func (c *Collector) Images(ctx context.Context, f keep.ImageFilter) (page []keep.Image, next string, err error) {
	if err := f.Check(); err != nil {
		return nil, "", err
	}
	matches, err := matcher(f.Image)
	if err != nil {
		return nil, "", err
	}
	images, err := c.view(ctx, true)
	if err != nil {
		return nil, "", err
	}
	slices.SortFunc(images, func(a, b image) int { return strings.Compare(a.ID, b.ID) })
	page = []keep.Image{}
	for n := range images {
		i := &images[n]
		if i.ID <= f.Cursor || !i.isOf(f) || !matches(i) {
			continue
		}
		if len(page) == f.Limit {
			return page, page[len(page)-1].ID, nil
		}
		page = append(page, i.answer())
	}
	return page, "", nil
}

// isOf reports whether an image is of a filter, its Image aside.
func (i *image) isOf(f keep.ImageFilter) bool {
	return (f.Owner == "" || f.Owner == i.owner()) &&
		(f.Set == "" || slices.Contains(i.sets, f.Set)) &&
		(f.Reason == "" || slices.ContainsFunc(i.kept, func(k keep.Kept) bool { return k.Reason == f.Reason })) &&
		(f.Collectable == nil || *f.Collectable == (len(i.kept) == 0))
}

func (i *image) owner() keep.Owner {
	if len(i.Brought) > 0 {
		return keep.OwnerTowline
	}
	return keep.OwnerOther
}

// digest returns the image's digest in registries, "" where it has none or several.
func (i *image) digest() (digest string) {
	for n, name := range i.Digests {
		switch one := names.ParseName(name).Digest; {
		case n == 0:
			digest = one
		case digest != one:
			return ""
		}
	}
	return digest
}

// answer returns an image in the form of the API.
func (i *image) answer() keep.Image {
	k := keep.Image{
		ID: i.ID, Names: i.allNames(), Size: i.Size, Unique: i.Unique, Owner: i.owner(), CreatedAt: i.Created.UTC(), ArrivedAt: i.Arrived, UsedAt: i.Used,
		Sets: append([]string{}, i.sets...), Leases: append([]string{}, i.leases...), Containers: append([]keep.Container{}, i.containers...),
		Collectable: len(i.kept) == 0, Kept: i.kept, Digest: i.digest(),
	}
	if i.Created.IsZero() {
		k.CreatedAt = i.Created
	}
	return k
}

// matcher returns what reports whether an image is of the filter's words: the beginning of
// an ID, a name with or without a tag or a digest, or a pattern in which * stands for
// anything and ? for one character.
func matcher(words string) (func(*image) bool, error) {
	if len(words) > puller.MaxReference {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "image: it has %d bytes; names have at most %d", len(words), puller.MaxReference)
	}
	switch {
	case words == "":
		return func(*image) bool { return true }, nil
	case strings.HasPrefix(words, "sha256:"):
		return func(i *image) bool { return strings.HasPrefix(i.ID, words) }, nil
	case strings.ContainsAny(words, "*?"):
		pattern := regexp.MustCompile(`\A(?:docker\.io/(?:library/)?)?` + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(words)) + `\z`)
		return func(i *image) bool { return slices.ContainsFunc(i.names(), pattern.MatchString) }, nil
	}
	named, err := reference.ParseNormalizedNamed(words)
	if err != nil {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "image: %q is no name of an image: %w", puller.Clip(words), err)
	}
	if reference.IsNameOnly(named) {
		return func(i *image) bool {
			return slices.ContainsFunc(i.names(), func(name string) bool { return names.ParseName(name).Repository == named.Name() })
		}, nil
	}
	return func(i *image) bool { return slices.Contains(i.names(), names.EngineRef(named.String())) }, nil
}
