package peers

import "time"

// Hasten makes a Node wait for less.
func (n *Node) Hasten() {
	n.timing = timing{
		head: 2 * time.Second, gap: time.Second, answer: 2 * time.Second,
		busy: time.Second, strange: time.Second, patience: time.Second, look: 200 * time.Millisecond, others: 3 * time.Second, pause: 10 * time.Millisecond, proven: time.Second,
		wait: 500 * time.Millisecond, turn: 500 * time.Millisecond, still: 200 * time.Millisecond, send: 2 * time.Second,
		linger: time.Second,
	}
}
