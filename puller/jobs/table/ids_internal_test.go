package table

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
)

// IDs go on above the earlier ones, whatever the clock says.
func TestIDsGrow(t *testing.T) {
	t.Parallel()
	p := New(0, 0)
	future := ulid.MustNew(ulid.Timestamp(time.Now().Add(48*time.Hour)), nil).String()
	past := ulid.MustNew(ulid.Timestamp(time.Now().Add(-48*time.Hour)), nil).String()
	last := p.newID()
	for i, id := range []string{past, future, past, "", "no ULID"} {
		p.StartAbove(id)
		for range 1000 {
			next := p.newID()
			if next <= last || i > 0 && next <= future {
				t.Fatalf("after %s there came %s", last, next)
			}
			last = next
		}
	}
}
