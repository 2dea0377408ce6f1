package table

import (
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/stream"
)

func TestBudgetOfAllCallers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		one   amount
		taken int // so many of them
		says  string
	}{
		{"jobs", amount{1, 100}, 20_000, "20000 may be"},
		{"bytes", amount{1, 256 << 10}, 512, "134217728 may be"},
		{"bytes that come close", amount{1, 100<<20 + 1}, 1, "134217728 may be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(16_000, 101<<20)
			var all []*Entry
			for n := 0; ; n++ {
				j := NewEntry(&job.Env{Events: stream.NewEventLog(new(stream.Sequence), 0)}, job.Request{Caller: fmt.Sprint(n % 7)}, 0, trace.SpanFromContext(t.Context()))
				j.counted = c.one
				err := p.checkBudget([]*Entry{j})
				if err == nil && n < c.taken {
					p.hold(j)
					all = append(all, j)
					continue
				}
				if n != c.taken || puller.KindOf(err) != puller.ErrOverloaded || !strings.Contains(err.Error(), c.says) {
					t.Errorf("after %d: %v", n, err)
				}
				break
			}
			for _, j := range all {
				p.release(j)
			}
			if len(p.held) != 0 || p.unended != (amount{}) {
				t.Errorf("when all have ended, %v are held, %v in all", p.held, p.unended)
			}
		})
	}
}
