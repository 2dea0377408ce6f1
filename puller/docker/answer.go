package docker

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Limits of answers that are read as a whole, in bytes: lists of images grow with
// the engine's store.
const (
	maxList   = 128 << 20
	maxAnswer = 16 << 20
)

// bounded ends answers that are longer than any that an engine has reason to give.
// Streams are not bounded: they are passed on as they come.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	most := int64(maxAnswer)
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/images/create"), strings.HasSuffix(path, "/logs"), strings.HasSuffix(path, "/wait"):
		return resp, nil
	case strings.HasSuffix(path, "/images/json"), strings.HasSuffix(path, "/containers/json"):
		most = maxList
	}
	resp.Body = &boundedBody{resp.Body, most, most}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left, most int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One byte more tells an answer that ends here from one that is longer.
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
