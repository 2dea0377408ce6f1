package credentials

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/distribution/reference"
)

const (
	// maxConfig bounds an X-Registry-Config header, in bytes.
	maxConfig = 64 << 10
	// maxRegistries is how many registries one may name.
	maxRegistries = 100
)

// ParseConfig checks an X-Registry-Config header: base64url of a JSON object with the
// credentials of several registries by their addresses (Docker Engine API, "Build an
// image"). Each of the result names its registry.
func ParseConfig(header string) ([]Credentials, error) {
	if header == "" {
		return nil, nil
	}
	fault := func(why string) ([]Credentials, error) {
		return nil, fmt.Errorf("X-Registry-Config: %s; send base64url of a JSON object such as {\"registry.example.com\": {\"username\": …, \"password\": …}}", why)
	}
	if len(header) > maxConfig {
		return fault("longer than 64 KiB")
	}
	raw, err := decodeBase64URL(header)
	if err != nil {
		return fault("not base64url")
	}
	var logins map[string]login
	switch err := json.Unmarshal(raw, &logins); { // the error can quote the secret
	case err != nil:
		return fault("not a JSON object of objects of strings")
	case len(logins) > maxRegistries:
		return fault(fmt.Sprintf("%d registries; it has at most %d", len(logins), maxRegistries))
	}
	var all []Credentials
	seen := make(map[string]bool)
	for _, address := range slices.Sorted(maps.Keys(logins)) {
		one := logins[address]
		one.ServerAddress = address
		body, err := json.Marshal(one)
		if err != nil {
			return fault("a login that has no JSON")
		}
		c, err := Parse(base64.URLEncoding.EncodeToString(body))
		if err != nil {
			return fault(fmt.Sprintf("the login of %.100q: %v", address, errors.Unwrap(err)))
		}
		switch {
		case c == (Credentials{}):
			continue
		case c.registry == "":
			return fault("a login without the address of a registry")
		case seen[c.registry]:
			return fault(fmt.Sprintf("the registry %s is named twice", c.registry))
		}
		seen[c.registry] = true
		all = append(all, c)
	}
	return all, nil
}

// Config returns an X-Registry-Config header of credentials that each name their
// registry, "" for none.
func Config(all []Credentials) string {
	logins := make(map[string]login)
	for _, c := range all {
		if c.registry != "" {
			l := c.login()
			address := l.ServerAddress
			l.ServerAddress = ""
			logins[address] = l
		}
	}
	if len(logins) == 0 {
		return ""
	}
	body, err := json.Marshal(logins)
	if err != nil {
		panic("credentials: logins that have no JSON: " + err.Error())
	}
	return base64.URLEncoding.EncodeToString(body)
}

// Select returns those of several credentials that may be shown for an image: the first
// that names its registry, else one, as far as that may be shown.
func Select(several []Credentials, one Credentials, image reference.Named) Credentials {
	for _, c := range several {
		if c.registry != "" && c.For(image) != (Credentials{}) {
			return c
		}
	}
	return one
}
