package transport

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Limits of answers that are read as a whole, in bytes. Lists of images grow with the
// engine's store.
const (
	maxList   = 128 << 20
	maxAnswer = 16 << 20
)

// limitedTransport fails answers that are longer than a correct engine's. Streams have no
// limit: they are passed on as they arrive.
type limitedTransport struct{ next http.RoundTripper }

func (b limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	most := int64(maxAnswer)
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/images/create"), strings.HasSuffix(path, "/logs"), strings.HasSuffix(path, "/wait"):
		return resp, nil
	case strings.HasSuffix(path, "/images/json"), strings.HasSuffix(path, "/containers/json"), strings.HasSuffix(path, "/system/df"):
		most = maxList
	}
	resp.Body = &limitedBody{resp.Body, most, most}
	return resp, nil
}

type limitedBody struct {
	io.ReadCloser
	left, most int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One more byte tells an answer that ends here from a longer one.
		var more [1]byte
		n, err := b.ReadCloser.Read(more[:])
		if n > 0 {
			return 0, fmt.Errorf("the engine's answer has more than %d bytes", b.most)
		}
		return 0, err
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
