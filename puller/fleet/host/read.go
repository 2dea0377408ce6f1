package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/towline/towline/puller/fleet"
)

// jitter spreads what hosts do: by up to a tenth.
func jitter(d time.Duration) time.Duration { return d - d/20 + rand.N(d/10) }

var errNone = errors.New("there is no such record")

// directGet reads the last value of a key (NATS ADR-31): it takes no consumer.
func (h *Host) directGet(ctx context.Context, bucket, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	m, err := h.o.Link.Conn().RequestWithContext(ctx, fleet.DirectGet(bucket, key), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("no controller of the fleet %s has made its buckets yet", h.o.Fleet)
	case err != nil:
		return nil, fmt.Errorf("read from the bucket %s: %w", bucket, err)
	}
	switch m.Header.Get("Status") {
	case "":
	case "404":
		return nil, errNone
	default:
		return nil, fmt.Errorf("read from the bucket %s: %s %s", bucket, m.Header.Get("Status"), m.Header.Get("Description"))
	}
	if m.Header.Get("Nats-Subject") != fleet.Key(bucket, key) {
		return nil, fmt.Errorf("read from the bucket %s: the answer is of another key", bucket)
	}
	if m.Header.Get("KV-Operation") != "" {
		return nil, errNone
	}
	return m.Data, nil
}
