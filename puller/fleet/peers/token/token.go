// Package token proves to a host that another one knows the key of a group.
package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/towline/towline/puller/fleet"
)

// scheme is that of the Authorization header.
const scheme = "Towline "

// Header returns the Authorization header with which a host asks for a digest. Its token is
// for one digest, so that who reads it on the way can have nothing else with it.
func Header(g fleet.Group, host, digest string) string { return scheme + token(g, host, digest) }

func token(g fleet.Group, host, digest string) string {
	mac := hmac.New(sha256.New, g.Key)
	for _, field := range []string{"towline peer 1", g.Set, strconv.FormatUint(g.Generation, 10), host, digest} {
		mac.Write([]byte(strconv.Itoa(len(field)) + ":" + field))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Check reports in constant time whether an Authorization header has the token. A group
// without a key has none.
func Check(g fleet.Group, host, digest, header string) bool {
	shown, ok := strings.CutPrefix(header, scheme)
	want := token(g, host, digest)
	return hmac.Equal([]byte(shown), []byte(want)) && ok && len(g.Key) > 0
}
