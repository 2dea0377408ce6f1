package limits

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewRequests(2)
		for i := range 1000 {
			l.Allow(fmt.Sprint(i))
		}
		for range 2 {
			l.Allow("busy")
		}
		if n := len(l.spent); n != 1001 {
			t.Errorf("%d callers are known", n)
		}
		<-time.After(time.Second)
		l.Allow("next")
		if n := len(l.spent); n != 1 {
			t.Errorf("a second later %d callers are known", n)
		}
	})
}
