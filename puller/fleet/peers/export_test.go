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
		head: 3 * time.Second, gap: 2 * time.Second, answer: 10 * time.Second,
		busy: 3 * time.Second, patience: 2 * time.Second, pause: 10 * time.Millisecond, proven: 2 * time.Second,
		wait: time.Second, turn: 500 * time.Millisecond, still: 200 * time.Millisecond, send: 5 * time.Second,
		linger: 2 * time.Second,
	}
}
