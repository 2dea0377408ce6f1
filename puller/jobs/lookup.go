package jobs

import (
	"context"
	"slices"

	"github.com/distribution/reference"
	"github.com/oklog/ulid/v2"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/jobs/table"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/store"
)

// kept returns the record of a job that is not in memory, or ErrNotFound.
func (s *Service) kept(id string) (store.Record, error) {
	if _, err := ulid.ParseStrict(id); err != nil {
		return store.Record{}, errNoJob(id)
	}
	r, err := s.store.Record(id)
	if puller.KindOf(err) == puller.ErrNotFound || err == nil && !r.Job.State.Ended() {
		return store.Record{}, errNoJob(id) // or it is about to be accepted
	}
	r.Job = s.outputs.Kept(r.Job)
	return r, err
}

func errNoJob(id string) error {
	return puller.Errorf(puller.ErrNotFound, "job %q is not known; it may have ended long ago", puller.Clip(id))
}

// Job implements puller.Service.
func (s *Service) Job(id string) (puller.Job, error) {
	if e := s.table.Get(id); e != nil {
		return s.told(e), nil
	}
	r, err := s.kept(id)
	return r.Job, err
}

// Wait implements puller.Service.
func (s *Service) Wait(ctx context.Context, id string) (puller.Job, error) {
	e := s.table.Get(id)
	if e == nil {
		return s.Job(id)
	}
	var err error
	select {
	case <-e.Settled():
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.writer.done:
		err = puller.Errorf(puller.ErrOverloaded, "towline is shutting down; job %s goes on when it is back", id)
	}
	v := s.told(e)
	if v.State.Ended() {
		err = nil
	}
	return v, err
}

// Cancel implements puller.Service.
func (s *Service) Cancel(id string) (puller.Job, error) {
	e := s.table.Get(id)
	if e != nil {
		if s.table.IsClosing() {
			return puller.Job{}, table.ErrClosing
		}
		left := e.Work().Leave(puller.Errorf(puller.ErrCanceled, "%s: canceled", e.View().Image))
		v, err := s.settled(e)
		if err != nil || left {
			return v, err
		}
	}
	v, err := s.Job(id)
	if err != nil {
		return puller.Job{}, err
	}
	return puller.Job{}, puller.Errorf(puller.ErrConflict, "job %s has already ended: it is %s", id, v.State)
}

// settled waits until a job that ends has ended.
func (s *Service) settled(e *table.Entry) (puller.Job, error) {
	select {
	case <-e.Settled():
	case <-s.writer.done:
	}
	v := s.told(e)
	if !v.State.Ended() {
		return puller.Job{}, table.ErrClosing
	}
	return v, nil
}

// Jobs implements puller.Service.
func (s *Service) Jobs(f puller.Filter) (page []puller.Job, next string, err error) {
	if err := f.Check(); err != nil {
		return nil, "", err
	}
	// First those in memory: what leaves it meanwhile is then in both, and not in
	// neither.
	var live []puller.Job
	for _, e := range s.table.Newest(f.Cursor) {
		v := e.View()
		if f.State != "" && v.State != f.State || f.Kind != "" && v.Kind != f.Kind || f.Image != "" && v.Image != f.Image {
			continue
		}
		if live = append(live, e.Snapshot()); len(live) > f.Limit {
			break
		}
	}
	ended, err := s.store.Ended(puller.Filter{State: f.State, Kind: f.Kind, Image: f.Image, Cursor: f.Cursor, Limit: f.Limit + 1})
	if err != nil {
		return nil, "", err
	}
	page = merge(live, ended)
	if len(page) > f.Limit {
		page = page[:f.Limit]
		next = page[f.Limit-1].ID
	}
	for i := range page {
		page[i] = s.outputs.Kept(page[i])
		page[i].Images = nil // a thousand jobs may have a thousand each
	}
	return page, next, nil
}

// merge returns the jobs of two lists, newest first. Of a job that is in both, it is
// what the second says.
func merge(live, ended []puller.Job) []puller.Job {
	all := make([]puller.Job, 0, len(live)+len(ended))
	for _, v := range live {
		for len(ended) > 0 && ended[0].ID > v.ID {
			all, ended = append(all, ended[0]), ended[1:]
		}
		if len(ended) == 0 || ended[0].ID != v.ID {
			all = append(all, v)
		}
	}
	return append(all, ended...)
}

// Image implements puller.Service.
func (s *Service) Image(ctx context.Context, name, platform string, own puller.Rules) (puller.Image, error) {
	ref, err := reference.ParseAnyReference(name)
	if err != nil {
		return puller.Image{}, puller.Errorf(puller.ErrInvalidRequest, "image: %q is not an image reference: %w", puller.Clip(name), err)
	}
	image := ref.String() // of an ID, sha256:…
	named, ok := ref.(reference.Named)
	if ok {
		if err := puller.CheckRegistry(named); err != nil {
			return puller.Image{}, err
		}
		named = reference.TagNameOnly(named)
		if err := s.defaults.CheckName(named, own); err != nil {
			return puller.Image{}, err
		}
		image = names.EngineRef(named.String())
	}
	found, err := s.engine.Inspect(ctx, image, platform)
	if err != nil {
		return puller.Image{}, err
	}
	if err := s.proofs.Mismatch(found, proof.Wanted{Image: image, Platform: platform}); err != nil {
		return puller.Image{}, puller.Errorf(puller.ErrNotFound, "%s: the engine has no such image: %w", puller.Clip(name), puller.Inner(err))
	}
	forbidden := func(name string) bool {
		other, err := reference.ParseNormalizedNamed(name)
		return err != nil || (!ok || other.Name() != named.Name()) && s.defaults.CheckName(other, own) != nil
	}
	if s.defaults.Rules != nil || own != nil {
		found.RepoTags = slices.DeleteFunc(found.RepoTags, forbidden)
		found.RepoDigests = slices.DeleteFunc(found.RepoDigests, forbidden)
		if !ok && len(found.RepoTags)+len(found.RepoDigests) == 0 {
			return puller.Image{}, puller.Errorf(puller.ErrForbidden, "image: the rules forbid all names that %s has", puller.Clip(name))
		}
	}
	return found, nil
}

// endedRun returns what is kept of a run that has ended, or nil.
func (s *Service) endedRun(id string) (*store.Run, error) {
	if e := s.table.Get(id); e != nil {
		if !e.Ending() {
			return nil, nil
		}
		return e.Record().Run, nil
	}
	r, err := s.store.Record(id)
	if puller.KindOf(err) == puller.ErrNotFound {
		return nil, nil // it is not ours, or it is kept no longer
	}
	return r.Run, err
}
