// Package buckets makes the JetStream buckets of a fleet.
package buckets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/towline/towline/puller/fleet"
)

// Limits of the bucket of reports, which hosts write to.
const (
	// maxReport is how many bytes a message has at most, with its header.
	maxReport = fleet.MaxReport + 1<<10
	// MaxReports is how many bytes all reports have, and maxReports how many there are. Beyond
	// it there are no new ones, and those that are there still change: so a host that writes many
	// takes nothing from others, and the controller that acts removes what it wrote.
	MaxReports = 128 << 20
	maxReports = 500_000
	// sameReport is how long JetStream remembers the IDs of messages. Towline sets none; one
	// host could fill the memory with them.
	sameReport = 100 * time.Millisecond
)

// replicas is how many servers keep a bucket, where the NATS has as many: one may fail.
const replicas = 3

// codes of JetStream's errors (nats-server, errors.json).
const (
	codeNoPeers          jetstream.ErrorCode = 10005 // no suitable peers for placement
	codeNotClustered     jetstream.ErrorCode = 10074 // replicas > 1 not supported in non-clustered mode
	codeInsufficientRoom jetstream.ErrorCode = 10023
	codeTooManyReplicas  jetstream.ErrorCode = 10052 // by the account's or the stream's limits
)

// All returns the configurations of all buckets of a fleet.
func All(s fleet.Subjects) []jetstream.StreamConfig {
	reports := bucket(s.Reports(), "What the hosts say.")
	reports.MaxMsgSize, reports.MaxBytes, reports.MaxMsgs, reports.Duplicates = maxReport, MaxReports, maxReports, sameReport
	// A message with Nats-Rollup: all removes all others of its stream. So does a purge of a
	// key by nats.go, for that key.
	reports.AllowRollup = false
	// Hosts say all again when they connect. On disk, each report would wait for it.
	reports.Storage = jetstream.MemoryStorage
	return []jetstream.StreamConfig{
		bucket(s.Sets(), "What was asked for."), bucket(s.Desired(), "What each host is to have."), reports,
		bucket(s.Lead(), "Which controller acts."), Invited(s),
	}
}

// Invited returns the configuration of the bucket of invitations.
func Invited(s fleet.Subjects) jetstream.StreamConfig {
	return bucket(s.Invited(), "Labels of the hosts that were invited.")
}

// bucket returns the stream of a bucket as clients of NATS make it (ADR-8), with a history
// of one.
func bucket(name, what string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: fleet.Stream(name), Description: "Towline: " + what, Subjects: []string{fleet.Key(name, ">")},
		MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Duplicates: 2 * time.Minute,
		AllowRollup: true, DenyDelete: true, AllowDirect: true,
	}
}

// Open makes a bucket if there is none, with three replicas where the NATS has three
// servers. One that has fewer gets three, as soon as that is possible. It changes nothing
// else of a bucket that is there. It may be called at the same time from several hosts.
func Open(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) error {
	stream, err := js.Stream(ctx, config.Name)
	if err == nil {
		return grow(ctx, js, stream.CachedInfo().Config)
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	config.Replicas = replicas
	_, err = js.CreateStream(ctx, config)
	if isFewServers(err) {
		config.Replicas = 1
		_, err = js.CreateStream(ctx, config)
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another host made it, with other replicas
		return nil
	}
	if err != nil {
		return fmt.Errorf("make the bucket %s: %w", config.Name, err)
	}
	return nil
}

// grow gives a bucket three replicas, if that is possible.
func grow(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) error {
	if config.Replicas >= replicas {
		return nil
	}
	config.Replicas = replicas
	if _, err := js.UpdateStream(ctx, config); err != nil && !isFewServers(err) {
		return fmt.Errorf("give the bucket %s %d replicas: %w", config.Name, replicas, err)
	}
	return nil
}

// isFewServers reports whether JetStream has refused three replicas.
func isFewServers(err error) bool {
	var refused jetstream.JetStreamError
	if !errors.As(err, &refused) || refused.APIError() == nil {
		return false
	}
	switch refused.APIError().ErrorCode {
	case codeNoPeers, codeNotClustered, codeInsufficientRoom, codeTooManyReplicas:
		return true
	}
	return false
}
