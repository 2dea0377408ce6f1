// Package redact takes secrets out of texts.
package redact

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// Redactor takes secrets out of texts. Registries can repeat what they were shown, and
// engines repeat what registries say: as it is, or in the form of a URL, Go, JSON, HTML,
// base64 or hexadecimal digits, also one within the other. nil finds nothing. Its methods may be called from anywhere.
type Redactor struct {
	exact *regexp.Regexp // what is taken out as it is
	wide  *regexp.Regexp // what is taken out with all that it is part of
	cut   *regexp.Regexp // what a text ends with that was cut within a secret

	mu    sync.Mutex
	known map[string]string // what short texts became
}

// hidden stands for what was taken out.
const hidden = "(hidden)"

const (
	// leastSecret is how long a form is that is looked for anywhere, in bytes.
	// A shorter one is only found where it stands alone, as a word does: a
	// password "a" is in every sentence.
	leastSecret = 4
	// longSecret is from how many bytes on base64 of a secret is known by its
	// two ends.
	longSecret = 128
	endOfLong  = 64
	// mostSpecial is how many characters with many forms a secret may have to be
	// known as a whole: expressions grow with them.
	mostSpecial = 100
	// mostKnown and longestKnown bound what is remembered: a pull has some
	// hundred lines, with few words and layers in them.
	mostKnown, longestKnown = 256, 128
)

// Of returns a Redactor of credentials, nil for none.
func Of(c puller.Credentials) *Redactor { return New(c.Secrets()...) }

// New returns a Redactor of secrets; of those that are empty there is
// nothing to find.
func New(secrets ...string) *Redactor {
	var exact, wide, cut []string
	slices.Sort(secrets)
	for _, s := range slices.Compact(secrets) {
		if s == "" {
			continue
		}
		ends := []string{s}
		if len(s) > longSecret {
			ends = []string{strings.ToValidUTF8(s[:endOfLong], ""), strings.ToValidUTF8(s[len(s)-endOfLong:], "")}
		}
		if special(s) > mostSpecial {
			for _, end := range ends {
				wide = append(wide, anyForm(end))
			}
		} else {
			exact = append(exact, alone(s, anyForm(s)), alone(s, anyCase(hexOf(s))))
		}
		if len(s) <= longSecret {
			for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				b := enc.EncodeToString([]byte(s))
				exact = append(exact, alone(b, anyForm(b))+`(?:=|%(?:25)*3[dD])*`)
			}
		}
		for _, end := range ends {
			wide = append(wide, base64Within(end)...)
		}
		if len(s) > leastSecret {
			cut = append(cut, beginning(s))
		}
	}
	if len(exact)+len(wide) == 0 {
		return nil
	}
	r := &Redactor{known: make(map[string]string)}
	r.exact, r.wide, r.cut = union(exact), union(wide), union(cut)
	return r
}

// union returns what finds any of the expressions, the longest first; nil for none.
func union(all []string) *regexp.Regexp {
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return regexp.MustCompile(`(?:` + strings.Join(slices.Compact(all), `|`) + `)`)
}

// Text returns a text without the secrets.
func (r *Redactor) Text(text string) string {
	if r == nil || text == "" {
		return text
	}
	if len(text) > longestKnown {
		return r.redact(text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	said, ok := r.known[text]
	if !ok {
		if said = r.redact(text); len(r.known) < mostKnown {
			r.known[strings.Clone(text)] = said
		}
	}
	return said
}

func (r *Redactor) redact(text string) string {
	if r.wide != nil {
		text = replaceWide(text, r.wide.FindAllStringIndex(text, -1))
	}
	if r.exact != nil {
		text = r.exact.ReplaceAllLiteralString(text, hidden)
	}
	if r.cut == nil {
		return text
	}
	var out strings.Builder
	for {
		i := strings.Index(text, "…")
		if j := strings.Index(text, "..."); j >= 0 && (i < 0 || j < i) {
			i = j
		}
		if i < 0 {
			out.WriteString(text)
			return out.String()
		}
		out.WriteString(r.cut.ReplaceAllLiteralString(text[:i], hidden))
		out.WriteString(text[i : i+3]) // both have three bytes
		text = text[i+3:]
	}
}

// replaceWide takes out what was found together with the characters of a token
// around it.
func replaceWide(text string, found [][]int) string {
	var out strings.Builder
	last := 0
	for _, at := range found {
		begin, end := at[0], at[1]
		if begin < last {
			continue // within the one before
		}
		for begin > last && ofToken(text[begin-1]) {
			begin--
		}
		for end < len(text) && ofToken(text[end]) {
			end++
		}
		out.WriteString(text[last:begin])
		out.WriteString(hidden)
		last = end
	}
	out.WriteString(text[last:])
	return out.String()
}

func ofToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("+/=-_", c) >= 0
}

// Error returns an error without the secrets. Its kind stays.
func (r *Redactor) Error(err error) error {
	if r == nil || err == nil {
		return err
	}
	said := r.Text(err.Error())
	if said == err.Error() {
		return err
	}
	var e *puller.Error
	unclear := errors.As(err, &e) && e.Unclear
	return &puller.Error{Kind: puller.KindOf(err), RetryAfter: puller.RetryAfterOf(err), Unclear: unclear, Err: errors.New(said)}
}

// Message returns a line of an engine's stream without the secrets.
func (r *Redactor) Message(m pullstream.Message) pullstream.Message {
	if r == nil {
		return m
	}
	m.Status, m.ID, m.Error, m.Detail.Units, m.Aux = r.Text(m.Status), r.Text(m.ID), r.Text(m.Error), r.Text(m.Detail.Units), nil
	if m.ErrorDetail != nil {
		detail := *m.ErrorDetail
		detail.Message = r.Text(detail.Message)
		m.ErrorDetail = &detail
	}
	return m
}

// result returns what a job ends with without the secrets.
func (r *Redactor) Result(v puller.Result) puller.Result {
	v.ImageID, v.Digest = r.Text(v.ImageID), r.Text(v.Digest)
	return v
}

// jsonOf returns a text as it stands in JSON, in the forms that there are.
func jsonOf(s string) []string {
	var plain strings.Builder
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	escaped, err := json.Marshal(s)
	if err != nil || e.Encode(s) != nil {
		return nil
	}
	return []string{string(escaped[1 : len(escaped)-1]), strings.TrimSuffix(plain.String(), "\n")[1 : plain.Len()-2]}
}
