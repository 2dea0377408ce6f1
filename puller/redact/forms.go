package redact

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// backslash is one of those that Go and JSON put before a character, at any depth.
const backslash = `(?:\\|%(?:25)*5[cC])`

// named are the names of characters in HTML.
var named = map[rune]string{'&': "amp", '<': "lt", '>': "gt", '"': "quot", '\'': "apos", ' ': "nbsp"}

// letters are what Go, and JSON but for a and v, write behind a backslash. Credentials have
// no line breaks.
var letters = map[rune]string{'\a': "a", '\b': "b", '\f': "f", '\t': "t", '\v': "v"}

// anyForm returns an expression that matches a text as it is and in every form
// that escapes some of its characters, whichever it chooses: RFC 3986 and HTML's
// forms by "%", JSON and Go (once or more) by "\", HTML by "&". Letters and
// digits are escaped by none of them.
func anyForm(s string) string {
	var b strings.Builder
	for _, c := range characters(s) {
		b.WriteString(c)
	}
	return b.String()
}

// characters are the expressions of anyForm, of each character one.
func characters(s string) (all []string) {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		all = append(all, formsOf(r, s[i:i+n]))
		i += n
	}
	return all
}

// formsOf returns what one character may be written as; raw is its bytes.
func formsOf(r rune, raw string) string {
	if r < utf8.RuneSelf && isWord(byte(r)) && r != '_' {
		return raw
	}
	invalid := r == utf8.RuneError && len(raw) == 1
	if strings.ContainsRune(ofTokens, r) {
		return fmt.Sprintf(`(?:%s|%%(?:25)*%s|&#0*%d;|&#[xX]0*%s;)`, regexp.QuoteMeta(raw), anyCase(hexOf(raw)), r, anyCase(hexOf(raw)))
	}
	forms := []string{regexp.QuoteMeta(raw)}
	if invalid { // no expression has such a byte in it
		forms = []string{string(utf8.RuneError)}
	}
	var percent, escaped string // byte by byte
	for _, c := range []byte(raw) {
		digits := anyCase(fmt.Sprintf("%02x", c))
		percent += `%(?:25)*` + digits
		escaped += backslash + `+x` + digits
	}
	forms = append(forms, percent, fmt.Sprintf(`&(?:amp;)*#0*%d;`, r), `&(?:amp;)*#[xX]0*`+anyCase(fmt.Sprintf("%x", r))+`;`)
	if name := named[r]; name != "" {
		forms = append(forms, `&(?:amp;)*`+name+`;`)
	}
	switch r {
	case ' ':
		forms = append(forms, `\+`, `%(?:25)*2[bB]`)
	case '&':
		forms = append(forms, `&(?:amp;)+`)
	}
	units := ""
	for _, u := range utf16.Encode([]rune{r}) {
		units += backslash + `+u` + anyCase(fmt.Sprintf("%04x", u))
	}
	forms = []string{backslash + `*(?:` + strings.Join(forms, `|`) + `)`, escaped, units, backslash + `+U` + anyCase(fmt.Sprintf("%08x", r))}
	if letter := letters[r]; letter != "" {
		forms = append(forms, backslash+`+`+letter)
	}
	if r == '\\' {
		forms = append(forms, backslash+`+`)
	}
	return `(?:` + strings.Join(forms, `|`) + `)`
}

// ofTokens are the characters of tokens, beside letters and digits, that RFC 3986
// has as they are (2.3).
const ofTokens = "-._~"

// special counts the characters that have many forms.
func special(s string) (n int) {
	for _, r := range s {
		if r >= utf8.RuneSelf || !isWord(byte(r)) && !strings.ContainsRune(ofTokens, r) {
			n++
		}
	}
	return n
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// anyCase matches hexadecimal digits in capitals or not.
func anyCase(digits string) string { return `(?i:` + digits + `)` }

func hexOf(s string) string { return hex.EncodeToString([]byte(s)) }

// alone has an expression of a form that is too short match only whole words.
func alone(form, expression string) string {
	if len(form) >= leastSecret {
		return expression
	}
	if isWord(form[0]) {
		expression = `\b` + expression
	}
	if isWord(form[len(form)-1]) {
		expression += `\b`
	}
	return expression
}

// leastWithin is how many digits of base64 must be a secret's own.
const leastWithin = 6

// base64Within returns expressions that match base64 of any text that has the
// secret in it, as it is or in JSON: a login, or the whole header. Of each of the
// three ways in which it can lie there, the digits count that are its own. A short
// one has too few, but for those of its quotes in JSON.
func base64Within(s string) (all []string) {
	texts := append(jsonOf(s), s)
	for _, j := range jsonOf(s) {
		texts = append(texts, `"`+j+`"`)
	}
	for _, s := range texts {
		for before := range 3 {
			digits := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s))
			own := digits[(before*8+5)/6 : (before+len(s))*8/6]
			if len(own) < leastWithin {
				continue
			}
			var b strings.Builder
			for _, c := range own {
				switch c {
				case '+', '-':
					b.WriteString(`(?:` + formsOf('+', "+") + `|` + formsOf('-', "-") + `)`)
				case '/', '_':
					b.WriteString(`(?:` + formsOf('/', "/") + `|_)`)
				default:
					b.WriteRune(c)
				}
			}
			all = append(all, b.String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// mostOfCut bounds how much of a secret's beginning is looked for at a cut.
const mostOfCut = 200

// beginning returns an expression that matches the beginning of a secret, of
// leastSecret characters or more, at the end of a text.
func beginning(s string) string {
	all := characters(s)
	all = all[:min(len(all), mostOfCut)]
	least := min(leastSecret, len(all))
	expression := ""
	for _, c := range slices.Backward(all[least:]) {
		expression = `(?:` + c + expression + `)?`
	}
	return strings.Join(all[:least], "") + expression + `$`
}
