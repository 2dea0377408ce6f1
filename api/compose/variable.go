package compose

import (
	"slices"
	"strings"
)

// Limits of one text that has variables in it.
const (
	maxNesting = 32
	maxText    = 4 << 10 // bytes, before and after
	maxUnset   = 10      // variables without a value that are told
)

// lookup returns a variable's value, and whether it has one.
type lookup = func(name string) (value string, ok bool)

// expansion puts variables into a text, in the forms of the Compose
// specification ("Interpolation"): $NAME, ${NAME}, ${NAME:-default},
// ${NAME-default}, ${NAME:?message}, ${NAME?message}, ${NAME:+instead},
// ${NAME+instead}, and $$ for $. Defaults, messages and replacements may have
// variables in them. compose-go's template has the same, but it can't say which
// variable has no value: it writes that to the standard logger.
type expansion struct {
	lookup lookup
	unset  []string // what has no value and no default, and was put in as ""
	rest   string
}

// expand returns the text with its variables put in. The error is
// ErrInvalidRequest and names the variable.
func expand(text string, lookup lookup) (value string, unset []string, err error) {
	if len(text) > maxText {
		return "", nil, invalid("%d bytes long; at most %d are taken", len(text), maxText)
	}
	e := expansion{lookup: lookup, rest: text}
	value, err = e.run(0, true)
	return value, e.unset, err
}

// run reads to the end of the text, or to the } that ends a nested one. What
// is not live is read but not wanted.
func (e *expansion) run(nesting int, live bool) (string, error) {
	if nesting > maxNesting {
		return "", invalid("variables nested more than %d deep", maxNesting)
	}
	var out strings.Builder
	braces := 0
	for e.rest != "" {
		c := e.rest[0]
		switch {
		case c == '$':
			value, err := e.one(nesting, live)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			if out.Len() > maxText {
				return "", invalid("longer than %d bytes with its variables put in", maxText)
			}
			continue
		case nesting > 0 && c == '}' && braces == 0:
			return out.String(), nil
		case nesting > 0 && c == '}':
			braces--
		case nesting > 0 && c == '{':
			braces++
		}
		out.WriteByte(c)
		e.rest = e.rest[1:]
	}
	if nesting > 0 {
		return "", invalid("a ${ that has no }")
	}
	return out.String(), nil
}

// one reads what a $ begins.
func (e *expansion) one(nesting int, live bool) (string, error) {
	e.rest = e.rest[1:]
	switch {
	case strings.HasPrefix(e.rest, "$"):
		e.rest = e.rest[1:]
		return "$", nil
	case !strings.HasPrefix(e.rest, "{"):
		name := e.name()
		if name == "" {
			return "$", nil
		}
		return e.plain(name, live), nil
	}
	e.rest = e.rest[1:]
	name := e.name()
	if name == "" {
		return "", invalid("a ${ without the name of a variable; write $$ for a $")
	}
	orEmpty := false // an empty value is as good as none
	if orEmpty = strings.HasPrefix(e.rest, ":"); orEmpty {
		e.rest = e.rest[1:]
	}
	if e.rest == "" {
		return "", invalid("a ${%s that has no }", clip(name))
	}
	operator := e.rest[0]
	e.rest = e.rest[1:]
	if operator == '}' && !orEmpty {
		return e.plain(name, live), nil
	}
	if !strings.ContainsRune("-?+", rune(operator)) {
		return "", invalid("${%s… is no way to write a variable", clip(name))
	}
	value, has := e.lookup(name)
	has = has && !(orEmpty && value == "")
	word, err := e.run(nesting+1, live && has == (operator == '+'))
	if err != nil {
		return "", err
	}
	e.rest = e.rest[1:] // the }
	switch {
	case has == (operator == '+'):
		if operator == '?' && live {
			if word != "" {
				return "", invalid("the variable %s must be given: %s", clip(name), clip(word))
			}
			return "", invalid("the variable %s must be given", clip(name))
		}
		return word, nil
	case operator == '+':
		return "", nil
	}
	return value, nil
}

// plain is a variable without a default.
func (e *expansion) plain(name string, live bool) string {
	value, ok := e.lookup(name)
	if !ok && live && len(e.unset) < maxUnset && !slices.Contains(e.unset, name) {
		e.unset = append(e.unset, name)
	}
	return value
}

// name reads the name of a variable, "" where there is none.
func (e *expansion) name() string {
	i := 0
	for i < len(e.rest) {
		c := e.rest[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			break
		}
		i++
	}
	name := e.rest[:i]
	e.rest = e.rest[i:]
	return name
}
