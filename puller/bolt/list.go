package bolt

import (
	"bytes"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt/database"
)

const defaultLimit = 100

// Ended implements store.Store. A filter by kind, state or image takes up to the
// limit from each range of an index that it allows, at most nine, and of those
// the newest.
func (s *Store) Ended(f puller.Filter) ([]puller.Job, error) {
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	jobs := []puller.Job{}
	err := s.view("list jobs", func(tx *bbolt.Tx) error {
		b, err := open(tx)
		if err != nil {
			return err
		}
		for _, id := range b.choose(f) {
			value := b.ended.Get(id)
			if value == nil {
				return database.Damagef("job %s is in an index, but has no record", id)
			}
			job, err := decodeJob(id, value)
			if err != nil {
				return err
			}
			jobs = append(jobs, job)
		}
		return nil
	})
	s.release()
	if err := unlessBlank(err); err != nil {
		return nil, err
	}
	return jobs, nil
}

// choose returns the IDs of the newest jobs that a filter chooses, newest first.
func (b *buckets) choose(f puller.Filter) (ids [][]byte) {
	if f.Kind == "" && f.State == "" && f.Image == "" {
		return newest(b.ended, nil, f)
	}
	bucket, image := b.byState, []byte(nil)
	if f.Image != "" {
		bucket, image = b.byImage, hashOf(f.Image)
	}
	for i, kind := range kinds {
		for j, state := range states {
			if f.Kind != "" && f.Kind != kind || f.State != "" && f.State != state {
				continue
			}
			prefix := append(bytes.Clone(image), byte(i+1), byte(j+1))
			ids = append(ids, newest(bucket, prefix, f)...)
		}
	}
	slices.SortFunc(ids, func(a, b []byte) int { return bytes.Compare(b, a) })
	return ids[:min(len(ids), f.Limit)]
}

// newest returns the IDs that follow a prefix in the keys of a bucket, from the
// last one below the filter's cursor, and as many as its limit.
func newest(b *bbolt.Bucket, prefix []byte, f puller.Filter) (ids [][]byte) {
	end := append(bytes.Clone(prefix), f.Cursor...)
	if f.Cursor == "" {
		end = append(end, 0xff) // above all IDs, which are letters and digits
	}
	c := b.Cursor()
	key, _ := c.Seek(end)
	if key == nil {
		key, _ = c.Last()
	} else {
		key, _ = c.Prev()
	}
	for ; len(ids) < f.Limit && key != nil; key, _ = c.Prev() {
		id, ok := bytes.CutPrefix(key, prefix)
		if !ok {
			break
		}
		ids = append(ids, id)
	}
	return ids
}
