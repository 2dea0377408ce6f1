package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/towline/towline/puller"
)

// A value is kept behind a seal: the version of its form in one byte, and the
// CRC32C of that byte and what follows, in four. bbolt itself has checksums of
// its headers only.
const (
	version  = 1
	sealSize = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(value []byte) uint32 {
	return crc32.Update(crc32.Checksum(value[:1], castagnoli), castagnoli, value[sealSize:])
}

// seal fills in the first sealSize bytes.
func seal(value []byte) {
	value[0] = version
	binary.BigEndian.PutUint32(value[1:], checksum(value))
}

// unseal returns what is behind a good seal. The error is damage, or
// errNewer.
func unseal(value []byte) ([]byte, error) {
	switch {
	case len(value) < sealSize:
		return nil, damagef("%d bytes, where at least %d belong", len(value), sealSize)
	case binary.BigEndian.Uint32(value[1:]) != checksum(value):
		return nil, damagef("wrong checksum")
	case value[0] != version:
		return nil, fmt.Errorf("%w: version %d", errNewer, value[0])
	}
	return value[sealSize:], nil
}

// encode appends a record to b, which body writes to, behind the place for its seal: the length of
// its idempotency key, the key, and the record in JSON. The key is in front so
// that it can be told without reading the JSON, and keeps bytes that are no
// UTF-8.
func encode(b *bytes.Buffer, body *json.Encoder, r *puller.Record) error {
	var front [sealSize + binary.MaxVarintLen64]byte
	b.Write(front[:sealSize+binary.PutUvarint(front[sealSize:], uint64(len(r.Key)))])
	b.WriteString(r.Key)
	if slices.ContainsFunc(r.Events, func(e puller.Event) bool { return e.Result != nil }) {
		kept := *r
		kept.Events = withoutResults(r.Events)
		r = &kept
	}
	if err := body.Encode(r); err != nil {
		return fmt.Errorf("job %s: %w", r.Job.ID, err)
	}
	return nil
}

func withoutResults(events []puller.Event) []puller.Event {
	events = slices.Clone(events)
	for i := range events {
		events[i].Result = nil
	}
	return events
}

// split takes a record apart into its idempotency key and its JSON.
func split(value []byte) (key string, body []byte, err error) {
	payload, err := unseal(value)
	if err != nil {
		return "", nil, err
	}
	size, n := binary.Uvarint(payload)
	if n <= 0 || size > uint64(len(payload)-n) {
		return "", nil, damagef("the length of the key is wrong")
	}
	payload = payload[n:]
	return string(payload[:size]), payload[size:], nil
}

func keyOf(value []byte) (string, error) {
	key, _, err := split(value)
	return key, err
}

// decode reads the record of a job.
func decode(id, value []byte) (puller.Record, error) {
	var r puller.Record
	key, err := decodeInto(id, value, &r)
	if err != nil {
		return puller.Record{}, err
	}
	r.Key = key
	return r, ofJob(id, r.Job.ID)
}

// decodeJob reads the job of a record, and leaves the rest unread.
func decodeJob(id, value []byte) (puller.Job, error) {
	var r struct {
		Job puller.Job `json:"job"`
	}
	if _, err := decodeInto(id, value, &r); err != nil {
		return puller.Job{}, err
	}
	return r.Job, ofJob(id, r.Job.ID)
}

func decodeInto(id, value []byte, into any) (key string, err error) {
	key, body, err := split(value)
	if err != nil {
		return "", fmt.Errorf("job %s: %w", id, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return "", damagef("job %s: %w", id, err)
	}
	return key, nil
}

func ofJob(id []byte, found string) error {
	if found != string(id) {
		return damagef("job %s: it is job %s", id, found)
	}
	return nil
}
