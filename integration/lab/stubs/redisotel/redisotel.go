// Package redisotel stands for the one of that name, of which the lab's registry has no
// use: it has no Redis. The real one brings four versions of OpenTelemetry's names, which
// each first build would compile.
package redisotel

import (
	"errors"

	"github.com/redis/go-redis/v9"
)

// InstrumentMetrics returns an error.
func InstrumentMetrics(redis.UniversalClient) error {
	return errors.New("redisotel: the lab's registry has no Redis")
}
