package blobs

import (
	"errors"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/mirror/blobs/ranges"
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

// growBy is how many bytes more than it needs a part gets room for, so that few writes
// ask for it.
const growBy = 32 << 20

// reserve lets an entry come into use if all that are in use then fit. It removes
// nothing: blobs that don't come cost no other ones.
func (s *Store) reserve(e *entry) error {
	if e.size > ranges.MaxSize || onDisk(e.size) > s.cap {
		return puller.Errorf(puller.ErrNoSpace, "%s has %d bytes; the cache keeps %d (mirror.cache)", e.digest, e.size, s.cap)
	}
	if s.reserved+onDisk(e.size) > s.cap {
		return puller.Errorf(puller.ErrNoSpace, "the cache has no room for the %d bytes of %s: of %d bytes (mirror.cache), %d are in use", e.size, e.digest, s.cap, s.reserved)
	}
	if s.entries[e.digest] == nil {
		if err := s.makeRoom(0, 1); err != nil {
			return puller.Errorf(puller.ErrNoSpace, "the cache has no room for one blob more: %w", err)
		}
	}
	s.reserved += onDisk(e.size)
	return nil
}

// grow makes room for so many bytes of a blob in use.
func (s *Store) grow(b *Blob, bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := b.entry
	switch {
	case e.blob != b:
		return errClosed
	case bytes <= e.counted:
		return nil
	}
	if err := s.makeRoom(bytes-e.counted, 0); err != nil {
		return puller.Errorf(puller.ErrNoSpace, "the cache can't make room for %s: %w", e.digest, err)
	}
	s.count(e, bytes)
	return nil
}

// makeRoom removes idle entries until there is room for more bytes and entries.
func (s *Store) makeRoom(bytes int64, entries int) error {
	for s.counted+bytes > s.cap || len(s.entries)+entries > mostEntries {
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
