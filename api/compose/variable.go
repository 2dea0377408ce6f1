package compose

import (
	"slices"
	"strings"
)

// Limits of one text that has variables in it.
const (
	maxNesting = 32
	maxText    = 4 << 10 // bytes, before and after
	maxUnset   = 10      // variables without a value that an error lists
)

// lookup returns a variable's value, and whether it has one.
type lookup = func(name string) (value string, ok bool)

// expansion expands the variables in a text. It knows the forms of the Compose
// specification ("Interpolation"): $NAME, ${NAME}, ${NAME:-default}, ${NAME-default},
// ${NAME:?message}, ${NAME?message}, ${NAME:+instead}, ${NAME+instead}, and $$ for $.
// Defaults, messages and replacements may have variables.
//
// The package template of compose-go expands the same forms. It is not used, because it
// can't report which variables have no value: its options do not apply inside defaults,
// messages and replacements. There it writes to the standard logger.
type expansion struct {
	lookup lookup
	unset  []string // variables without value and default, expanded to ""
	rest   string
}

// expand returns the text with its variables expanded, and the variables without a value.
// The error is ErrInvalidRequest and names the variable.
func expand(text string, lookup lookup) (value string, unset []string, err error) {
	if len(text) > maxText {
		return "", nil, invalid("%d bytes long; at most %d are accepted", len(text), maxText)
	}
	e := expansion{lookup: lookup, rest: text}
	value, err = e.run(0, true)
	return value, e.unset, err
}

// run reads to the end of the text, or to the } that ends a nested text. A text that is
// not live is read, but its value is not used.
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
				return "", invalid("longer than %d bytes with its variables expanded", maxText)
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
		return "", invalid("a ${ without its }")
	}
	return out.String(), nil
}

// one reads the variable after a $.
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
	orEmpty := false // an empty value counts as none
	if orEmpty = strings.HasPrefix(e.rest, ":"); orEmpty {
		e.rest = e.rest[1:]
	}
	if e.rest == "" {
		return "", invalid("a ${%s without its }", clip(name))
	}
	operator := e.rest[0]
	e.rest = e.rest[1:]
	if operator == '}' && !orEmpty {
		return e.plain(name, live), nil
	}
	if !strings.ContainsRune("-?+", rune(operator)) {
		return "", invalid("${%s… is not a form of a variable; write ${NAME} or ${NAME:-default}", clip(name))
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

// name reads the name of a variable, "" if there is none.
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
