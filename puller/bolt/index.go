package bolt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
)

// The buckets, each with what its keys are; the index buckets are of jobs that
// have ended.
var (
	metaName    = []byte("meta")
	unendedName = []byte("unended")  // ID: the record
	endedName   = []byte("ended")    // ID: the record
	keysName    = []byte("keys")     // idempotency key: ID
	byTimeName  = []byte("by-time")  // time of the end, ID: kind, state, hash of the image, idempotency key
	byStateName = []byte("by-state") // kind, state, ID
	byImageName = []byte("by-image") // hash of the image, kind, state, ID
)

// buckets are those of a transaction.
type buckets struct{ meta, unended, ended, keys, byTime, byState, byImage *bbolt.Bucket }

func (b *buckets) each(do func(name []byte, b **bbolt.Bucket, fill float64) error) error {
	const (
		rising = 0.9 // filled in the order of the keys, or nearly
		mixed  = bbolt.DefaultFillPercent
	)
	for _, e := range []struct {
		name   []byte
		bucket **bbolt.Bucket
		fill   float64
	}{
		{metaName, &b.meta, mixed},
		{unendedName, &b.unended, rising},
		{endedName, &b.ended, rising},
		{keysName, &b.keys, mixed},
		{byTimeName, &b.byTime, rising},
		{byStateName, &b.byState, rising},
		{byImageName, &b.byImage, mixed},
	} {
		if err := do(e.name, e.bucket, e.fill); err != nil {
			return err
		}
	}
	return nil
}

// open returns the buckets of a transaction.
func open(tx *bbolt.Tx) (*buckets, error) {
	b := new(buckets)
	return b, b.each(func(name []byte, bucket **bbolt.Bucket, fill float64) error {
		if *bucket = tx.Bucket(name); *bucket == nil {
			return damagef("there is no bucket %q", name)
		}
		(*bucket).FillPercent = fill
		return nil
	})
}

// create makes the buckets of a new file.
func create(tx *bbolt.Tx) error {
	b := new(buckets)
	err := b.each(func(name []byte, bucket **bbolt.Bucket, _ float64) (err error) {
		*bucket, err = tx.CreateBucket(name)
		return err
	})
	if err != nil {
		return err
	}
	return b.setHead(head{})
}

// find returns the record of a job, or nil.
func (b *buckets) find(id []byte) []byte {
	if value := b.unended.Get(id); value != nil {
		return value
	}
	return b.ended.Get(id)
}

func first(b *bbolt.Bucket) (c *bbolt.Cursor, key, value []byte) {
	c = b.Cursor()
	key, value = c.First()
	return c, key, value
}

// kinds and states are numbered in the indexes, from 1. The numbers are in
// files: they stay.
var (
	kinds  = []puller.JobKind{"pull", "run", "prewarm"}
	states = []puller.State{puller.StateSucceeded, puller.StateFailed, puller.StateCanceled}
)

func number[T comparable](all []T, one T) byte {
	for i, v := range all {
		if v == one {
			return byte(i + 1)
		}
	}
	return 0
}

// hashSize is how much is kept of an image's SHA-256: none collide by chance.
const hashSize = 16

func hashOf(image string) []byte {
	sum := sha256.Sum256([]byte(image))
	return sum[:hashSize]
}

// entry is how a job that has ended is found.
type entry struct {
	id          []byte
	end         [timeSize]byte
	kind, state byte
	image       []byte // its hash; none if the job has no image
	key         string
}

// entryOf returns how a record is found.
func entryOf(r *puller.Record) entry {
	e := entry{
		id: []byte(r.Job.ID), end: timeKey(r.Job.FinishedAt), key: r.Key,
		kind: number(kinds, r.Job.Kind), state: number(states, r.Job.State),
	}
	if r.Job.Image != "" {
		e.image = hashOf(r.Job.Image)
	}
	return e
}

// timeSize is the length of a time in a key. Keys are in the order of times.
const timeSize = 12

func timeKey(t time.Time) (key [timeSize]byte) {
	binary.BigEndian.PutUint64(key[:], uint64(t.Unix())^1<<63) // signed to unsigned, in order
	binary.BigEndian.PutUint32(key[8:], uint32(t.Nanosecond()))
	return key
}

func (e entry) byTime() (key, value []byte) {
	value = append([]byte{e.kind, e.state, byte(len(e.image))}, e.image...)
	return append(e.end[:], e.id...), append(value, e.key...)
}

func (e entry) byState() []byte { return append([]byte{e.kind, e.state}, e.id...) }

func (e entry) byImage() []byte {
	return append(append(bytes.Clone(e.image), e.kind, e.state), e.id...)
}

// readEntry reads an entry of the bucket by time.
func readEntry(key, value []byte) (entry, error) {
	if len(key) <= timeSize || len(value) < 3 || len(value) < 3+int(value[2]) {
		return entry{}, damagef("an entry by time is too short")
	}
	image := 3 + int(value[2])
	return entry{
		id: bytes.Clone(key[timeSize:]), end: [timeSize]byte(key),
		kind: value[0], state: value[1], image: bytes.Clone(value[3:image]), key: string(value[image:]),
	}, nil
}

// index makes a job that has ended known to the indexes.
func (b *buckets) index(e entry) error {
	key, value := e.byTime()
	if err := b.byTime.Put(key, value); err != nil {
		return err
	}
	if len(e.image) > 0 {
		if err := b.byImage.Put(e.byImage(), []byte{}); err != nil {
			return err
		}
	}
	return b.byState.Put(e.byState(), []byte{})
}

// drop takes a job that has ended out, with its entries and its key.
func (b *buckets) drop(e entry) error {
	key, _ := e.byTime()
	if err := b.byTime.Delete(key); err != nil {
		return err
	}
	if len(e.image) > 0 {
		if err := b.byImage.Delete(e.byImage()); err != nil {
			return err
		}
	}
	if err := b.byState.Delete(e.byState()); err != nil {
		return err
	}
	if err := b.freeKey(e.key, e.id); err != nil {
		return err
	}
	return b.ended.Delete(e.id)
}
