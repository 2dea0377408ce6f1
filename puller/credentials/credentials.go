// Package credentials reads and hides what a call brings for a registry. It knows no
// other words of the domain.
package credentials

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller/names"
)

// Credentials are what one call brings for a registry, in the form of Docker's
// X-Registry-Auth header. They are kept in memory only for as long as the job
// runs, and never printed. The zero value is no credentials.
type Credentials struct {
	header string
	// registry is the canonical address of the one that they are for, "" where
	// they name none.
	registry string
}

// login is what the header holds (Docker Engine API, "Authentication").
type login struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"`
	ServerAddress string `json:"serveraddress,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// maxCredentials bounds the header, in bytes; registry tokens reach a few KiB.
const maxCredentials = 16 << 10

// Parse checks an X-Registry-Auth header: base64url of a JSON
// object (Docker Engine API, "Authentication"). Engines ignore one they can't
// read, and pull without credentials; here it is an error.
func Parse(header string) (Credentials, error) {
	if header == "" {
		return Credentials{}, nil
	}
	fault := func(why string) (Credentials, error) {
		return Credentials{}, fmt.Errorf("X-Registry-Auth: %w; send base64url of a JSON object such as {\"username\": …, \"password\": …}", errors.New(why))
	}
	if len(header) > maxCredentials {
		return fault("longer than 16 KiB")
	}
	raw, err := decodeBase64URL(header)
	if err != nil {
		return fault("not base64url")
	}
	var fields struct {
		login
		Email string
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&fields); err != nil {
		// The JSON error is left out: it can quote the secret.
		return fault("not a JSON object of strings")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fault("more than one JSON value")
	}
	if trimmed := bytes.TrimSpace(raw); trimmed[0] != '{' {
		return fault("not a JSON object")
	}
	for _, v := range []string{fields.Username, fields.Password, fields.Auth, fields.IdentityToken, fields.RegistryToken} {
		if strings.ContainsAny(v, "\x00\r\n") {
			return fault("a line break or a zero byte within a field")
		}
	}
	if fields.Username == "" && fields.Auth == "" && fields.IdentityToken == "" && fields.RegistryToken == "" {
		// Docker's own client sends an empty object when it has no
		// credentials: that is the same as no header.
		if fields.Password == "" {
			return Credentials{}, nil
		}
		return fault("a password without a username")
	}
	registry, err := RegistryOf(fields.ServerAddress)
	if err != nil {
		return fault("its serveraddress is no registry's, such as registry.example.com or https://index.docker.io/v1/")
	}
	// Padded base64url is the one form that every engine reads.
	return Credentials{base64.URLEncoding.EncodeToString(raw), registry}, nil
}

// RegistryOf returns the canonical address of the registry that a
// serveraddress names, "" for none: clients write it as the key under which they
// keep the login, which may be a URL.
func RegistryOf(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	for _, scheme := range []string{"https://", "http://"} {
		if len(address) > len(scheme) && strings.EqualFold(address[:len(scheme)], scheme) {
			address = address[len(scheme):]
			break
		}
	}
	host, _, _ := strings.Cut(address, "/")
	return names.CanonicalAddress(host)
}

// For returns the credentials if they may be shown for an image, else none: they
// are for its registry, or do not say for which they are.
func (c Credentials) For(image reference.Named) Credentials {
	if c.registry != "" && c.registry != names.RegistryOf(image.String()) {
		return Credentials{}
	}
	return c
}

// Registry returns the canonical address of the registry that the credentials are for,
// "" where they do not say.
func (c Credentials) Registry() string { return c.registry }

// HeaderFor is Header for an image in full form, with its registry as the
// serveraddress: engines with the containerd image store take credentials only
// with the server's address in their own spelling.
func (c Credentials) HeaderFor(image string) string {
	if c.header == "" {
		return ""
	}
	l := c.login()
	if l.ServerAddress, _, _ = strings.Cut(image, "/"); l.ServerAddress == names.Hub {
		l.ServerAddress = HubServer
	}
	body, err := json.Marshal(l)
	if err != nil {
		panic("credentials: credentials that have no JSON: " + err.Error())
	}
	return base64.URLEncoding.EncodeToString(body)
}

// Secrets returns what must not be told of the credentials, some of it perhaps "".
func (c Credentials) Secrets() []string {
	if c.header == "" {
		return nil
	}
	l := c.login()
	secrets := []string{l.Password, l.IdentityToken, l.RegistryToken, l.Auth, c.header}
	if login, err := decodeBase64URL(l.Auth); err == nil {
		_, password, _ := strings.Cut(string(login), ":")
		secrets = append(secrets, password)
	}
	if l.Password != "" {
		secrets = append(secrets, l.Username+":"+l.Password)
	}
	return secrets
}

// HubServer is how Docker's clients and engines name Docker Hub in credentials.
const HubServer = "https://index.docker.io/v1/"

// login reads the header, which Parse has checked.
func (c Credentials) login() (l login) {
	if raw, err := decodeBase64URL(c.header); err == nil {
		json.Unmarshal(raw, &l)
	}
	return l
}

// decodeBase64URL takes padded and unpadded forms, and the standard alphabet,
// which some clients send.
func decodeBase64URL(s string) ([]byte, error) {
	var last error
	for _, enc := range []*base64.Encoding{base64.URLEncoding, base64.RawURLEncoding, base64.StdEncoding} {
		raw, err := enc.DecodeString(s)
		if err == nil {
			return raw, nil
		}
		last = err
	}
	return nil, last
}

// Header returns the header as the engine takes it, "" for no credentials.
// Only engines and registries call it.
func (c Credentials) Header() string { return c.header }

// String hides what it stands for, so that a log line can't show it.
func (c Credentials) String() string {
	if c.header == "" {
		return "none"
	}
	return "hidden"
}

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

// Identity tells credentials apart without holding them.
func (c Credentials) Identity(key []byte) [sha256.Size]byte {
	var id [sha256.Size]byte
	if c.header == "" {
		return id
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(c.header))
	mac.Sum(id[:0])
	return id
}
