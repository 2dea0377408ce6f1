package puller

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// Credentials are what one call brings for a registry, in the form of Docker's
// X-Registry-Auth header. They are kept in memory only for as long as the job
// runs, and never printed. The zero value is no credentials.
type Credentials struct{ header string }

// maxCredentials bounds the header, in bytes; registry tokens reach a few KiB.
const maxCredentials = 16 << 10

// ParseCredentials checks an X-Registry-Auth header: base64url of a JSON
// object (Docker Engine API, "Authentication"). Engines ignore one they can't
// read, and pull without credentials; here it is an error.
func ParseCredentials(header string) (Credentials, error) {
	if header == "" {
		return Credentials{}, nil
	}
	fault := func(why string) (Credentials, error) {
		return Credentials{}, Errorf(InvalidRequest, "X-Registry-Auth: %s; send base64url of a JSON object such as {\"username\": …, \"password\": …}", why)
	}
	if len(header) > maxCredentials {
		return fault("longer than 16 KiB")
	}
	raw, err := decodeBase64URL(header)
	if err != nil {
		return fault("not base64url")
	}
	var fields struct {
		Username, Password, Auth, Email, ServerAddress, IdentityToken, RegistryToken string
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
	// Padded base64url is the one form that every engine reads.
	return Credentials{base64.URLEncoding.EncodeToString(raw)}, nil
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
// Only engines call it.
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

// identity tells credentials apart without holding them.
func (c Credentials) identity(key []byte) [sha256.Size]byte {
	var id [sha256.Size]byte
	if c.header == "" {
		return id
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(c.header))
	mac.Sum(id[:0])
	return id
}

// leastSecret is how long a secret is that is looked for in texts, in bytes: of
// shorter ones there are too many that are none.
const leastSecret = 4

// Redact returns a text without what of it is secret. Registries can say again
// what they were shown, and engines tell what registries say.
func (c Credentials) Redact(text string) string {
	if c.header == "" || text == "" {
		return text
	}
	secrets := []string{c.header}
	if raw, err := decodeBase64URL(c.header); err == nil {
		var f struct{ Username, Password, Auth, IdentityToken, RegistryToken string }
		json.Unmarshal(raw, &f) // ParseCredentials has
		login := []byte(f.Username + ":" + f.Password)
		secrets = append(secrets, f.Password, f.Auth, f.IdentityToken, f.RegistryToken,
			base64.StdEncoding.EncodeToString(login), base64.URLEncoding.EncodeToString(login))
	}
	for _, s := range secrets {
		if len(s) >= leastSecret {
			text = strings.ReplaceAll(text, s, "(hidden)")
		}
	}
	return text
}

// redactError is Redact for an error, whose kind stays.
func (c Credentials) redactError(err error) error {
	if err == nil || c.Redact(err.Error()) == err.Error() {
		return err
	}
	return &Error{Kind: KindOf(err), RetryAfter: retryAfterOf(err), Err: errors.New(c.Redact(err.Error()))}
}
