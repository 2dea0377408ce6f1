package stream

import "sync/atomic"

// A Sequence numbers the events of one daemon: every number is above all that
// were given before. Its methods may be called from anywhere.
type Sequence struct{ last atomic.Uint64 }

// Start makes the numbers go on after last. It is called before Next.
func (s *Sequence) Start(last uint64) { s.last.Store(last) }

// Last returns the number that was given last, 0 for none.
func (s *Sequence) Last() uint64 { return s.last.Load() }

// Next returns the next number, from 1.
func (s *Sequence) Next() uint64 { return s.last.Add(1) }
