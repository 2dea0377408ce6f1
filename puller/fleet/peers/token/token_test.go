package token_test

import (
	"testing"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/token"
)

func TestToken(t *testing.T) {
	g := fleet.Group{Set: "a", Generation: 1, Key: []byte("key")}
	seen := map[string]string{}
	for what, text := range map[string]string{
		"itself":     token.Header(g, "h", "d"),
		"host":       token.Header(g, "i", "d"),
		"digest":     token.Header(g, "h", "e"),
		"fields":     token.Header(g, "hd", ""),
		"key":        token.Header(fleet.Group{Set: "a", Generation: 1, Key: []byte("yek")}, "h", "d"),
		"set":        token.Header(fleet.Group{Set: "b", Generation: 1, Key: []byte("key")}, "h", "d"),
		"generation": token.Header(fleet.Group{Set: "a", Generation: 2, Key: []byte("key")}, "h", "d"),
	} {
		if other, ok := seen[text]; ok {
			t.Errorf("another %s has the token of another %s", what, other)
		}
		seen[text] = what
	}
}
