package mirror

import (
	"context"

	"github.com/towline/towline/puller/mirror/endpoint"
)

// OpenContent has a Mirror serve without a listener, and returns what it serves and how that ends.
func (m *Mirror) OpenContent(ctx context.Context) (c endpoint.Content, end func(), err error) {
	if err := m.store.Open(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	m.ctx, m.address, m.fault = ctx, "127.0.0.1:7079", ""
	return (*content)(m), func() {
		cancel()
		m.closing.Wait()
		m.store.Close()
	}, nil
}

// Parts returns how many parts of public repositories are remembered.
func (m *Mirror) Parts() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, all := range m.public {
		n += len(all)
	}
	return n
}
