package blobs

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"github.com/towline/towline/puller"
)

// Options are how a Store keeps blobs.
type Options struct {
	// Cap is how many bytes of the disk the blobs may have. Those in use must fit in it
	// when they are whole. Others are removed when the room for them is needed.
	Cap int64
	// Block is how many bytes a bit of a bitmap stands for; 0 is 64 KiB. It is more for
	// blobs above 65,536 blocks.
	Block int64
	Log   logrus.FieldLogger
}

// Store keeps blobs in a directory, which is one Store's only. Its methods may be called
// from anywhere.
type Store struct {
	dir        string
	cap, block int64
	log        logrus.FieldLogger

	buffers chan []byte // for hashing
	hashers sync.WaitGroup

	mu      sync.Mutex // taken before that of a Blob
	open    bool
	entries map[digest.Digest]*entry
	idle    list.List // the entries that are not in use, least recently used first
	counted int64     // bytes of all entries; of those in use, what they have room for
	// reserved is what the entries in use count for when they are whole. It is at most
	// cap, so there is room for them when the idle ones go.
	reserved int64
	stats    Stats
}

// entry is what a Store knows of a blob. The Store's lock guards it.
type entry struct {
	digest   digest.Digest
	size     int64
	counted  int64 // bytes
	whole    bool
	verified bool // since the store was opened
	users    int
	blob     *Blob         // while it is in use
	idle     *list.Element // while it is not
	grants   map[[32]byte]bool
}

// Stats are a Store's figures.
type Stats struct {
	Bytes int64 // on disk
	Blobs int   // whole ones and parts
	// Hits and Misses count what Acquire was asked for: whole blobs, and others.
	Hits, Misses int64
	Evicted      int64 // blobs that were removed because others needed the space
}

const (
	// mostEntries bounds the memory for very many small blobs.
	mostEntries = 100_000
	// mostGrants is how many identities are remembered for a blob.
	mostGrants = 1000
)

var errClosed = errors.New("the cache is closed")

// New returns a Store that is not open. The directory's parent must exist.
func New(dir string, o Options) *Store {
	return &Store{dir: dir, cap: o.Cap, block: cmp.Or(o.Block, 64<<10), log: o.Log}
}

// Open makes the directory with mode 0700 if there is none, and looks what it holds. It
// removes the least recently used blobs where they have more bytes than Cap.
func (s *Store) Open() error {
	if err := makeDir(s.dir); err != nil {
		return fmt.Errorf("open the cache: %w", err)
	}
	all, err := scan(s.dir)
	if err != nil {
		return fmt.Errorf("open the cache: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.counted, s.reserved = map[digest.Digest]*entry{}, 0, 0
	s.idle.Init()
	s.buffers = make(chan []byte, runtime.GOMAXPROCS(0))
	for range cap(s.buffers) {
		s.buffers <- make([]byte, hashPiece)
	}
	for _, k := range all {
		e := &entry{digest: k.digest, size: k.size, counted: onDisk(k.length), whole: k.whole}
		s.entries[k.digest] = e
		s.counted += e.counted
		e.idle = s.idle.PushBack(e)
	}
	s.open = true
	s.makeRoom(0, 0)
	return nil
}

// Close ends all readers and writers. What arrived stays in the directory.
func (s *Store) Close() {
	s.mu.Lock()
	s.open = false
	for _, e := range s.entries {
		if e.blob != nil {
			s.close(e)
		}
	}
	s.mu.Unlock()
	s.hashers.Wait()
}

// Acquire returns a blob of a size in bytes, which may be missing, there in part, or
// whole. It is not removed until it is released as often as it was acquired. The error
// is ErrInvalidRequest for a digest that is not known or a size below 0, ErrNoSpace
// where the blob does not fit beside those in use, and ErrCorrupt where the
// digest is that of a blob of another size.
func (s *Store) Acquire(name string, size int64) (*Blob, error) {
	d, err := parseDigest(name)
	switch {
	case err != nil:
		return nil, puller.Errorf(puller.ErrInvalidRequest, "digest: %q is not known: %w", puller.Clip(name), err)
	case size < 0:
		return nil, puller.Errorf(puller.ErrInvalidRequest, "size: %s has %d bytes", d, size)
	case size == 0 && d != d.Algorithm().FromBytes(nil):
		return nil, puller.Errorf(puller.ErrCorrupt, "%s has no bytes by its manifest, but no blob without bytes has this digest", d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[d]
	switch {
	case !s.open:
		return nil, errClosed
	case e != nil && e.size != size && (e.users > 0 || e.verified):
		return nil, puller.Errorf(puller.ErrCorrupt, "%s has %d bytes by its manifest, and %d by another one", d, size, e.size)
	case e != nil && e.size != size:
		if err := s.remove(e); err != nil {
			return nil, err
		}
		e = nil
	}
	if e == nil {
		e = &entry{digest: d, size: size}
	}
	if e.users == 0 {
		if err := s.begin(e); err != nil {
			return nil, err
		}
	}
	if e.blob.found() {
		s.stats.Hits++
	} else {
		s.stats.Misses++
	}
	e.users++
	return e.blob, nil
}

// begin takes an entry in use.
func (s *Store) begin(e *entry) error {
	if e.idle != nil {
		s.idle.Remove(e.idle)
		e.idle = nil
	}
	c := &content{}
	err := s.reserve(e)
	reserved := err == nil
	if err == nil && e.counted > 0 {
		c, err = openContent(s.dir, e.digest, e.size, e.whole, e.verified)
		if errors.Is(err, fs.ErrNotExist) { // somebody removed it
			c, err = &content{}, s.removeFilesOf(e)
		}
	}
	if err != nil {
		if e.counted > 0 {
			e.idle = s.idle.PushBack(e)
		}
		if reserved {
			s.reserved -= onDisk(e.size)
		}
		return err
	}
	s.entries[e.digest] = e
	if c.named {
		touch(s.dir, fileName(e.digest))
	}
	e.blob = &Blob{store: s, entry: e, digest: e.digest, size: e.size, content: c, room: e.counted, waiting: map[*reader]bool{}}
	s.hashers.Add(1)
	go (&hasher{blob: e.blob}).run()
	return nil
}

// use is an Acquire of a blob that is in use. It reports whether it is.
func (s *Store) use(b *Blob) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.entry.blob != b {
		return false
	}
	b.entry.users++
	return true
}

// release ends one use of a blob.
func (s *Store) release(b *Blob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := b.entry
	if e.blob != b {
		return // the store has closed
	}
	if e.users--; e.users == 0 {
		s.close(e)
	}
}

// close ends the use of an entry by all.
func (s *Store) close(e *entry) {
	c := e.blob.close()
	s.reserved -= onDisk(e.size)
	e.blob, e.users = nil, 0
	e.whole, e.verified = c.named, c.verified
	have := c.have.Total()
	if c.file == nil || c.wrong || c.bits != nil && !c.named && c.bits.Empty() {
		if err := s.remove(e); err != nil {
			s.log.WithError(err).Warn("a blob can't be removed from the cache")
		}
		return
	}
	s.count(e, onDisk(have))
	name := fileName(e.digest)
	if !c.named {
		name += partSuffix
	}
	touch(s.dir, name)
	e.idle = s.idle.PushBack(e)
}

// Holds reports whether a whole blob is there. It may be found damaged when it is used.
func (s *Store) Holds(name string, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[digest.Digest(name)]
	switch {
	case e == nil || e.size != size:
		return false
	case e.blob != nil:
		return e.blob.found()
	}
	return e.whole
}

// Stats returns the present figures.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.stats
	now.Bytes, now.Blobs = s.counted, len(s.entries)
	for _, e := range s.entries {
		if e.blob != nil {
			now.Bytes += onDisk(e.blob.Have()) - e.counted
		}
	}
	return now
}

// grant notes that an identity may have the blob.
func (e *entry) grant(identity [32]byte) {
	if e.grants == nil || len(e.grants) >= mostGrants && !e.grants[identity] {
		e.grants = map[[32]byte]bool{}
	}
	e.grants[identity] = true
}
