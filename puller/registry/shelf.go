package registry

import (
	"container/list"
	"sync"
)

// maxKnown is how many manifests are kept. Most take a few KiB; with all that
// document allows, the largest takes some hundred.
const maxKnown = 1000

// shelf keeps what was read by name, and drops what was not asked for longest.
// Its methods may be called from anywhere.
type shelf struct {
	most int

	mu    sync.Mutex
	order list.List // of *book, the last asked for in front
	books map[string]*list.Element
}

type book struct {
	name string
	document
}

func newShelf(most int) *shelf { return &shelf{most: most, books: make(map[string]*list.Element)} }

func (s *shelf) get(name string) (document, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.books[name]
	if !ok {
		return document{}, false
	}
	s.order.MoveToFront(e)
	return e.Value.(*book).document, true
}

func (s *shelf) put(name string, d document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.books[name]; ok {
		s.order.Remove(e)
	}
	s.books[name] = s.order.PushFront(&book{name, d})
	if len(s.books) > s.most {
		last := s.order.Remove(s.order.Back()).(*book)
		delete(s.books, last.name)
	}
}
