package stream

import (
	"errors"
	"io/fs"
	"os"
	"slices"
)

// tip is how far a tape had come at some time.
type tip struct {
	reel []segment
	tail uint64
}

func (t *Tape) tip() tip {
	t.mu.Lock()
	defer t.mu.Unlock()
	return tip{slices.Clone(t.reel), t.tail}
}

// first returns the order of the oldest frame that is kept or, if none is, of
// the last that was lost; 0 for neither.
func (t *Tape) first() uint64 {
	tip := t.tip()
	for _, s := range tip.reel {
		if s.first != 0 {
			return s.first
		}
	}
	return tip.tail
}

// place is how far a reader has come on a tape. The zero place is its
// beginning.
type place struct {
	id     int // the segment's
	at     int64
	order  uint64 // what is up to this has been read
	missed bool   // and that it missed some is what it was told last
}

// seek returns a place from where a reader gets what comes after an order.
func (t *Tape) seek(order uint64) place {
	p := place{order: order}
	for _, s := range t.tip().reel {
		if s.first != 0 && s.first <= order {
			p.id = s.id
		}
	}
	return p
}

// read reads on from a place, but nothing beyond the tip and no frame above an
// order: a batch of frames, with the frame that missed makes in the place of
// those that are not there. more says that it has not come to the tip. After an
// error the place is as it was.
func (t *Tape) read(p *place, tip tip, last uint64, missed func() Frame) (frames []Frame, more bool, err error) {
	skip := func(order uint64) {
		if order <= p.order {
			return
		}
		if !p.missed {
			f := missed()
			f.order = order
			frames = append(frames, f)
		}
		p.order, p.missed = order, true
	}
	for _, s := range tip.reel {
		if s.id > p.id {
			p.id, p.at = s.id, 0
		}
		if s.id < p.id || p.at >= s.size {
			continue
		}
		entries, err := t.entries(s, p.at)
		if err != nil {
			return nil, false, err
		}
		if len(entries) == 0 {
			p.at = s.size // what comes next tells what is missing
			continue
		}
		for _, e := range entries {
			if e.order > last {
				return frames, false, nil
			}
			if e.order > p.order {
				skip(e.prev)
				if e.Type != "" {
					frames = append(frames, e.Frame)
					p.missed = false
				}
				p.order = e.order
			}
			p.at = e.end
		}
		if p.at < s.size || s.id != tip.reel[len(tip.reel)-1].id {
			return frames, true, nil
		}
	}
	if tip.tail <= last {
		skip(tip.tail)
	}
	return frames, false, nil
}

// entries reads a batch of a segment, none if it has been dropped.
func (t *Tape) entries(s segment, at int64) ([]entry, error) {
	file, err := os.Open(t.name(s.slot))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// Its name may have gone to a newer one just now.
	if !slices.ContainsFunc(t.tip().reel, func(kept segment) bool { return kept.id == s.id }) {
		return nil, nil
	}
	return readEntries(file, at, s.size, tapeBatch)
}
