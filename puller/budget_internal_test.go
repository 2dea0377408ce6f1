package puller

import (
	"fmt"
	"strings"
	"testing"
)

func TestAllCallersTogetherHaveSoMuchAtMost(t *testing.T) {
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
			p := &Puller{held: make(map[string]amount), opts: Options{MaxPerCaller: 16_000, MaxBytesPerCaller: 101 << 20}}
			var all []*job
			for n := 0; ; n++ {
				j := &job{caller: fmt.Sprint(n % 7), counted: c.one}
				err := p.checkBudget(j.caller, []*job{j})
				if err == nil && n < c.taken {
					p.hold(j)
					all = append(all, j)
					continue
				}
				if n != c.taken || KindOf(err) != ErrOverloaded || !strings.Contains(err.Error(), c.says) {
					t.Errorf("after %d: %v", n, err)
				}
				break
			}
			for _, j := range all {
				p.drop(j)
			}
			if len(p.held) != 0 || p.unended != (amount{}) {
				t.Errorf("when all have ended, %v are held, %v in all", p.held, p.unended)
			}
		})
	}
}
