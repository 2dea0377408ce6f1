package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

// codeWrongSequence is JetStream's error for a message that expected another one before it.
const codeWrongSequence = 10071

// takenError says that another daemon has the host's ID.
type takenError struct{ by fleet.Identity }

func (e *takenError) Error() string {
	return fmt.Sprintf("the host ID is in use: the daemon on the machine %q has a live session with it; invite each host by an ID of its own", puller.Clip(e.by.Name))
}

// kept is what JetStream has under the host's ID.
type kept struct {
	sequence uint64         // 0 for nothing
	identity fleet.Identity // with a session of "" for nothing that counts
}

// claim has JetStream keep this session under the host's ID, unless another one is live.
func (s *session) claim(ctx context.Context) error {
	for range maxClaims {
		is, err := s.read(ctx)
		if err != nil {
			return err
		}
		if is.identity.Session != "" && is.identity.Session != s.id {
			live, err := s.isLive(ctx, is.identity)
			if err != nil {
				return err
			}
			if live {
				return &takenError{is.identity}
			}
		}
		if err := s.keep(ctx, s.identity(), is.sequence); !errors.Is(err, errLost) {
			return err
		}
		// Another session was faster, or a server that is behind has answered.
		pause := time.NewTimer(askEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
	return errors.New("the host's ID can't be claimed: what JetStream answers is not what it has")
}

// isLive asks whether another session lives, and listens for it. Its ID is a secret of the
// host: nobody else can answer with it.
func (s *session) isLive(ctx context.Context, other fleet.Identity) (bool, error) {
	limit := 2 * beatEvery
	if other.Machine == s.options.Identity().Machine {
		limit = sameLimit
	}
	for len(s.beats) > 0 {
		<-s.beats // it may be of a session that has ended meanwhile
	}
	end := time.NewTimer(limit)
	defer end.Stop()
	again := time.NewTicker(askEvery)
	defer again.Stop()
	for asks := true; ; {
		if asks {
			if err := s.beat(true); err != nil {
				return false, err
			}
			asks = false
		}
		select {
		case b := <-s.beats:
			if b.Session == other.Session {
				return true, nil
			}
		case <-again.C:
			asks = true
		case <-end.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// read returns what JetStream has under the host's ID.
func (s *session) read(ctx context.Context) (kept, error) {
	m, err := s.conn.request(ctx, fleet.DirectGet(s.subjects.Reports(), s.options.Host), nil, nil)
	if err != nil {
		return kept{}, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
	case "404":
		return kept{}, nil
	default:
		return kept{}, fmt.Errorf("JetStream answers with status %s %s", status, m.Header.Get("Description"))
	}
	sequence, err := strconv.ParseUint(m.Header.Get(nats.JSSequence), 10, 64)
	if err != nil {
		return kept{}, fmt.Errorf("JetStream answers without a sequence: %w", err)
	}
	// What can't be read, and a mark of a deletion, is no session.
	i, _ := fleet.ParseIdentity(m.Data)
	return kept{sequence, i}, nil
}

// keep has JetStream keep what this host says of itself, after the message with a sequence.
// The error is errLost if there is another one.
func (s *session) keep(ctx context.Context, said string, after uint64) error {
	header := nats.Header{"Nats-Expected-Last-Subject-Sequence": {strconv.FormatUint(after, 10)}}
	m, err := s.conn.request(ctx, fleet.Key(s.subjects.Reports(), s.options.Host), header, []byte(said))
	if err != nil {
		return err
	}
	var answer struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return fmt.Errorf("JetStream answers with %q", puller.Clip(string(m.Data)))
	case answer.Error == nil:
		s.held, s.said = answer.Seq, said
		return nil
	case answer.Error.Code == codeWrongSequence:
		return errLost
	default:
		return fmt.Errorf("JetStream does not keep what this host says: %s", answer.Error.Description)
	}
}
