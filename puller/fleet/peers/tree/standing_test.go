package tree_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/towline/towline/puller/fleet/peers/tree"
)

func TestStanding(t *testing.T) {
	type step struct {
		do     func(*tree.Standing)
		wait   time.Duration
		avoids bool // after it
	}
	const host = "host-1"
	dead := func(s *tree.Standing) { s.Dead(host) }
	asks := func(s *tree.Standing) { s.Asks(host) }
	answers := func(s *tree.Standing) { s.Answers(host) }
	bad := func(s *tree.Standing) { s.Avoid(host, tree.AvoidBad) }
	nothing := func(*tree.Standing) {}
	for what, steps := range map[string][]step{
		"unknown":        {{nothing, 0, false}, {asks, 0, false}, {answers, 0, false}},
		"dead":           {{dead, 0, true}, {nothing, 4 * time.Second, true}, {nothing, 2 * time.Second, false}},
		"dead_twice":     {{dead, 6 * time.Second, false}, {dead, 6 * time.Second, true}, {nothing, 5 * time.Second, false}},
		"dead_once":      {{dead, 0, true}, {dead, 6 * time.Second, false}},
		"comes_back":     {{dead, 0, true}, {asks, 0, false}},
		"late_answer":    {{dead, 0, true}, {answers, 0, true}, {asks, 0, false}},
		"only_asks":      {{dead, 0, true}, {asks, 0, false}, {dead, 0, true}, {asks, 6 * time.Second, true}, {nothing, 5 * time.Second, false}},
		"back_again":     {{dead, 0, true}, {asks, time.Second, false}, {answers, 0, false}, {dead, 0, true}, {asks, 0, false}},
		"bad_asks":       {{bad, 0, true}, {asks, 0, true}, {nothing, tree.AvoidBad - time.Second, true}, {nothing, time.Second, false}},
		"bad_after_dead": {{dead, 0, true}, {bad, 0, true}, {asks, 0, true}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s tree.Standing
				for i, step := range steps {
					step.do(&s)
					<-time.After(step.wait)
					if got := s.Avoids(host); got != step.avoids {
						t.Fatalf("step %d: it is avoided: %v", i, got)
					}
				}
			})
		})
	}
}
