package peers

import (
	"time"

	"github.com/towline/towline/puller/fleet"
)

// FanOut and the functions are for tests of the tree and of tokens.
const FanOut = fanOut

func Parent(members []fleet.Member, self string, seed uint64, skip func(string) bool) (fleet.Member, bool) {
	return parent(members, self, seed, skip)
}

func Seed(digest string, index int) uint64 { return seed(digest, index) }

func Token(g fleet.Group, host, digest string) string { return scheme + token(g, host, digest) }

// Hasten makes a Node wait for less.
func (n *Node) Hasten() {
	n.timing = timing{
		head: 2 * time.Second, gap: time.Second, answer: 2 * time.Second,
		busy: time.Second, strange: time.Second, patience: time.Second, others: 3 * time.Second, pause: 10 * time.Millisecond, proven: time.Second,
		wait: 500 * time.Millisecond, turn: 500 * time.Millisecond, still: 200 * time.Millisecond, send: 2 * time.Second,
		linger: time.Second,
	}
}
