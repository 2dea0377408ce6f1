package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/towline/towline/api/input"
	"github.com/towline/towline/api/limits"
	"github.com/towline/towline/puller"
)

// largeAnswer is how many bytes an answer may have that does not count as large.
const largeAnswer = 64 << 10

// jsonAnswers writes answers. Those that clients have not read yet are limited.
type jsonAnswers struct{ large *limits.Work }

// writeJSON answers a request. The error is ErrOverloaded if clients have not read too
// many large answers yet.
func (a jsonAnswers) writeJSON(w http.ResponseWriter, r *http.Request, status int, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if len(raw) > largeAnswer {
		name, _ := input.Caller(r)
		release, ok := a.large.TryAcquire(name, int64(len(raw)))
		if !ok {
			e := puller.Errorf(puller.ErrOverloaded, "the answer has %d bytes, and too many such answers are not read yet; read them, or try again later", len(raw))
			e.RetryAfter = time.Second
			return e
		}
		defer release()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(raw, '\n')) // an error says that the client has gone
	return nil
}
