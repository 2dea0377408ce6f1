package link

import "time"

// Hurry has beats and pings follow each other so fast, until the function it returns is
// called.
func Hurry(every time.Duration) (undo func()) {
	beats, pings := beatEvery, pingEvery
	beatEvery, pingEvery = every, every
	return func() { beatEvery, pingEvery = beats, pings }
}

// Cut ends the connection for good without a word, as a loss of power does.
func (l *Link) Cut() { l.conn.nats.Close() }
