package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/bolt/database"
	"github.com/towline/towline/puller/store"
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
		return nil, database.Damagef("%d bytes, where at least %d belong", len(value), sealSize)
	case binary.BigEndian.Uint32(value[1:]) != checksum(value):
		return nil, database.Damagef("wrong checksum")
	case value[0] != version:
		return nil, fmt.Errorf("%w: version %d", errNewer, value[0])
	}
	return value[sealSize:], nil
}

// encode returns a record as it is kept. Behind the seal are the length of its
// idempotency key, the key, and the record in JSON. The key stands in front so
// that it can be read without the JSON, and keeps bytes that are no UTF-8.
func encode(r *store.Record) ([]byte, error) {
	if number(kinds, r.Job.Kind) == 0 {
		return nil, puller.Errorf(puller.ErrInternal, "job %s: the kind %q is not known here", r.Job.ID, r.Job.Kind)
	}
	if slices.ContainsFunc(r.Events, func(e puller.Event) bool { return e.Result != nil }) {
		kept := *r
		kept.Events = slices.Clone(r.Events)
		for i := range kept.Events {
			kept.Events[i].Result = nil
		}
		r = &kept
	}
	var b bytes.Buffer
	b.Write(binary.AppendUvarint(make([]byte, sealSize), uint64(len(r.Key))))
	b.WriteString(r.Key)
	body := json.NewEncoder(&b)
	body.SetEscapeHTML(false)
	if err := body.Encode(r); err != nil {
		return nil, fmt.Errorf("job %s: %w", r.Job.ID, err)
	}
	seal(b.Bytes())
	return b.Bytes(), nil
}

// split takes a record apart into its idempotency key and its JSON.
func split(value []byte) (key string, body []byte, err error) {
	payload, err := unseal(value)
	if err != nil {
		return "", nil, err
	}
	size, n := binary.Uvarint(payload)
	if n <= 0 || size > uint64(len(payload)-n) {
		return "", nil, database.Damagef("the length of the key is wrong")
	}
	payload = payload[n:]
	return string(payload[:size]), payload[size:], nil
}

func keyOf(value []byte) (string, error) {
	key, _, err := split(value)
	return key, err
}

// decode reads the record of a job.
func decode(id, value []byte) (store.Record, error) {
	var r store.Record
	key, err := decodeInto(id, value, &r, &r.Job)
	r.Key = key
	return r, err
}

// decodeJob reads the job of a record, and leaves the rest unread.
func decodeJob(id, value []byte) (puller.Job, error) {
	var r struct {
		Job puller.Job `json:"job"`
	}
	_, err := decodeInto(id, value, &r, &r.Job)
	return r.Job, err
}

// decodeInto reads a record into a value that job is a part of.
func decodeInto(id, value []byte, into any, job *puller.Job) (key string, err error) {
	key, body, err := split(value)
	if err == nil {
		err = json.Unmarshal(body, into)
		switch {
		case err != nil:
			err = database.Damagef("%w", err)
		case job.ID != string(id):
			err = database.Damagef("it is job %s", job.ID)
		}
	}
	if err != nil {
		return "", fmt.Errorf("job %s: %w", id, err)
	}
	return key, nil
}
