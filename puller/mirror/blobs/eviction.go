package blobs

import (
	"errors"

	"github.com/towline/towline/puller"
)

// onDisk returns what a blob counts for of which so many bytes are there: what a file
// system commonly needs for it, with a page for its name and its bitmap.
func onDisk(length int64) int64 {
	const page = 4 << 10
	return (length+page-1)/page*page + page
}

// count sets how many bytes an entry counts for.
func (s *Store) count(e *entry, n int64) {
	s.counted += n - e.counted
	e.counted = n
}

// makeRoomFor makes room for all bytes of an entry, which is not idle.
func (s *Store) makeRoomFor(e *entry) error {
	if e.size > mostSize || onDisk(e.size) > s.cap {
		return puller.Errorf(puller.ErrNoSpace, "%s has %d bytes; the cache keeps %d (mirror.cache)", e.digest, e.size, s.cap)
	}
	if err := s.makeRoom(onDisk(e.size) - e.counted); err != nil {
		return puller.Errorf(puller.ErrNoSpace, "the cache has no room for the %d bytes of %s (mirror.cache is %d): %w", e.size, e.digest, s.cap, err)
	}
	return nil
}

// makeRoom removes idle entries until there is room for one more entry with so many
// bytes.
func (s *Store) makeRoom(bytes int64) error {
	for s.counted+bytes > s.cap || len(s.entries) >= mostEntries {
		oldest := s.idle.Front()
		if oldest == nil {
			return errors.New("all that it keeps is in use")
		}
		if err := s.evict(oldest.Value.(*entry)); err != nil {
			return err
		}
	}
	return nil
}

// evictOne removes the entry that was not used for longest, and reports whether there
// was one.
func (s *Store) evictOne() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.idle.Front()
	return oldest != nil && s.evict(oldest.Value.(*entry)) == nil
}

func (s *Store) evict(e *entry) error {
	err := s.remove(e)
	if err == nil {
		s.stats.Evicted++
	}
	return err
}

// remove forgets an entry that is not in use, and removes its files.
func (s *Store) remove(e *entry) error {
	if err := s.removeFilesOf(e); err != nil {
		return err
	}
	if e.idle != nil {
		s.idle.Remove(e.idle)
		e.idle = nil
	}
	s.count(e, 0)
	delete(s.entries, e.digest)
	return nil
}

func (s *Store) removeFilesOf(e *entry) error {
	return errors.Join(removeFile(s.dir, fileName(e.digest)), removeFiles(s.dir, e.digest))
}
