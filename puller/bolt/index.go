package bolt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"go.etcd.io/bbolt"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt/database"
	"github.com/towline/towline/puller/store"
)

// buckets are those of a transaction. The index buckets are of jobs that have
// ended.
type buckets struct{ meta, unended, ended, keys, byTime, byState, byImage *bbolt.Bucket }

// all returns the buckets by their names, each with what its keys are.
func (b *buckets) all() map[string]**bbolt.Bucket {
	return map[string]**bbolt.Bucket{
		"meta":     &b.meta,    // name: the head, or the store's ID
		"unended":  &b.unended, // ID: the record
		"ended":    &b.ended,   // ID: the record
		"keys":     &b.keys,    // idempotency key: ID
		"by-time":  &b.byTime,  // time of the end, ID: kind, state, hash of the image, idempotency key
		"by-state": &b.byState, // kind, state, ID
		"by-image": &b.byImage, // hash of the image, kind, state, ID
	}
}

// open returns the buckets of a transaction.
func open(tx *bbolt.Tx) (*buckets, error) {
	b := new(buckets)
	for name, bucket := range b.all() {
		if *bucket = tx.Bucket([]byte(name)); *bucket == nil {
			return nil, database.Damagef("there is no bucket %q", name)
		}
	}
	// Their keys come in rising order, or nearly.
	for _, rising := range []*bbolt.Bucket{b.unended, b.ended, b.byTime, b.byState} {
		rising.FillPercent = 0.9
	}
	return b, nil
}

// create makes the buckets of a new file.
func create(tx *bbolt.Tx) error {
	b := new(buckets)
	for name, bucket := range b.all() {
		var err error
		if *bucket, err = tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
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
func entryOf(r *store.Record) entry {
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
		return entry{}, database.Damagef("an entry by time is too short")
	}
	image := 3 + int(value[2])
	return entry{
		id: bytes.Clone(key[timeSize:]), end: [timeSize]byte(key),
		kind: value[0], state: value[1], image: bytes.Clone(value[3:image]), key: string(value[image:]),
	}, nil
}

// index adds a job that has ended to the indexes.
func (b *buckets) index(e entry) error {
	key, value := e.byTime()
	err := b.byTime.Put(key, value)
	if err == nil {
		err = b.byState.Put(e.byState(), []byte{})
	}
	if err == nil && len(e.image) > 0 {
		err = b.byImage.Put(e.byImage(), []byte{})
	}
	return err
}

// drop takes a job that has ended out, with its entries and its key.
func (b *buckets) drop(e entry) error {
	key, _ := e.byTime()
	err := b.byTime.Delete(key)
	if err == nil {
		err = b.byState.Delete(e.byState())
	}
	if err == nil && len(e.image) > 0 {
		err = b.byImage.Delete(e.byImage())
	}
	if err == nil {
		err = b.freeKey(e.key, e.id)
	}
	if err == nil {
		err = b.ended.Delete(e.id)
	}
	return err
}
