package bolt

import (
	"bytes"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
)

const defaultLimit = 100

// Ended implements puller.Store. A filter by kind, state or image reads a
// range of an index for each kind and state it allows, nine at most, side by
// side.
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
		ranges := b.ranges(f)
		for len(jobs) < f.Limit {
			id := newest(ranges)
			if id == nil {
				return nil
			}
			value := b.ended.Get(id)
			if value == nil {
				return damagef("job %s is in an index, and is not there", id)
			}
			job, err := decodeJob(id, value)
			if err != nil {
				return err
			}
			jobs = append(jobs, job)
		}
		return nil
	})
	s.touched(len(jobs))
	if err := unlessBlank(err); err != nil {
		return nil, err
	}
	return jobs, nil
}

// ranges returns where the jobs are that a filter chooses.
func (b *buckets) ranges(f puller.Filter) []*span {
	if f.Kind == "" && f.State == "" && f.Image == "" {
		return []*span{backwards(b.ended, nil, f.Cursor)}
	}
	bucket, image := b.byState, []byte(nil)
	if f.Image != "" {
		bucket, image = b.byImage, hashOf(f.Image)
	}
	var all []*span
	for i, kind := range kinds {
		for j, state := range states {
			if f.Kind != "" && f.Kind != kind || f.State != "" && f.State != state {
				continue
			}
			prefix := append(bytes.Clone(image), byte(i+1), byte(j+1))
			all = append(all, backwards(bucket, prefix, f.Cursor))
		}
	}
	return all
}

// span is the keys of a bucket with a prefix, from the last to the first.
type span struct {
	cursor *bbolt.Cursor
	prefix []byte
	id     []byte // what follows the prefix; nil at the end
}

// backwards returns the span of a prefix, below an ID unless that is "".
func backwards(b *bbolt.Bucket, prefix []byte, below string) *span {
	s := &span{cursor: b.Cursor(), prefix: prefix}
	bound := append(bytes.Clone(prefix), below...)
	if below == "" {
		bound = append(bound, 0xff) // above all IDs, which are letters and digits
	}
	if key, _ := s.cursor.Seek(bound); key == nil {
		s.take(s.cursor.Last())
	} else {
		s.take(s.cursor.Prev())
	}
	return s
}

func (s *span) take(key, _ []byte) {
	s.id = nil
	if id, ok := bytes.CutPrefix(key, s.prefix); ok && key != nil {
		s.id = id
	}
}

// newest takes the highest ID off the spans, or returns nil.
func newest(spans []*span) []byte {
	var best *span
	for _, s := range spans {
		if s.id != nil && (best == nil || bytes.Compare(s.id, best.id) > 0) {
			best = s
		}
	}
	if best == nil {
		return nil
	}
	id := best.id
	best.take(best.cursor.Prev())
	return id
}
