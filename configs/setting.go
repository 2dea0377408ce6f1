package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// setting is one key of a configuration, with what the tags of its field say.
type setting struct {
	key   string
	value reflect.Value
	tag   reflect.StructTag
}

// settings returns the keys of a configuration that have an environment variable, in
// the order of the fields.
func settings(c *Config) (all []setting) {
	var walk func(prefix string, section reflect.Value)
	walk = func(prefix string, section reflect.Value) {
		for i := range section.NumField() {
			field := section.Type().Field(i)
			key := prefix + field.Tag.Get("mapstructure")
			switch {
			case field.Type.Kind() == reflect.Struct:
				walk(key+".", section.Field(i))
			case field.Type != reflect.TypeFor[[]Credentials](): // Credentials have no variable
				all = append(all, setting{key, section.Field(i), field.Tag})
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return all
}

// setDefault sets the default of the tag. A list or mapping without one is empty, not nil.
func (s setting) setDefault() {
	if s.value.Kind() == reflect.Slice && s.value.IsNil() {
		s.value.Set(reflect.MakeSlice(s.value.Type(), 0, 0))
	}
	if s.value.Kind() == reflect.Map && s.value.IsNil() {
		s.value.Set(reflect.MakeMap(s.value.Type()))
	}
	written, ok := s.tag.Lookup("default")
	if !ok {
		return
	}
	switch s.value.Kind() {
	case reflect.String:
		s.value.SetString(written)
	case reflect.Bool:
		s.value.SetBool(written == "true")
	default:
		s.value.SetInt(s.parse(written))
	}
}

// isNumber reports whether the setting is a whole number, or a size.
func (s setting) isNumber() bool { return s.value.CanInt() && !s.isDuration() && !s.isPercent() }

func (s setting) isPercent() bool { return s.value.Type() == reflect.TypeFor[Percent]() }

func (s setting) isDuration() bool { return s.value.Type() == reflect.TypeFor[time.Duration]() }

// parse reads a number of a tag. It panics if the tag is wrong: the tags are part of
// the code, and each call of Default reads them.
func (s setting) parse(written string) int64 {
	var n int64
	var err error
	switch {
	case s.isDuration():
		var d time.Duration
		d, err = time.ParseDuration(written)
		n = int64(d)
	case s.isPercent():
		var p Percent
		p, err = parsePercent(written)
		n = int64(p)
	case strings.HasSuffix(written, "iB"):
		n, err = units.RAMInBytes(written)
	default:
		n, err = strconv.ParseInt(written, 10, 64)
	}
	if err != nil {
		panic("configs: the tag of " + s.key + ": " + err.Error())
	}
	return n
}

// checkForm returns what is wrong with the form of a value that was read for the
// setting, "" if nothing is. Values of the environment are texts. Decoding alone would
// read 1.5 and true as 1.
func (s setting) checkForm(value any) string {
	text, isText := value.(string)
	switch {
	case s.isDuration():
		const want = "is not a duration; write one with its unit, such as 90s, 30m or 720h"
		switch value.(type) {
		case string:
			if _, err := time.ParseDuration(text); err != nil {
				return want
			}
		case time.Duration:
		default: // a number without a unit would be read as nanoseconds
			if value != 0 {
				return want
			}
		}
	case s.isNumber():
		want := "is not a whole number"
		if low, _, _ := strings.Cut(s.tag.Get("range"), ".."); strings.HasSuffix(low, "iB") || s.value.Kind() == reflect.Int64 {
			want += " of bytes; write one, or a size such as 16MiB"
		}
		switch value.(type) {
		case string:
			_, size := units.RAMInBytes(text)
			if _, err := strconv.ParseInt(text, 10, 64); err != nil && (size != nil || !strings.HasSuffix(text, "iB")) {
				return want
			}
		case int, int64:
		default:
			return want
		}
	case s.value.Kind() == reflect.Bool:
		_, isBool := value.(bool)
		if _, err := strconv.ParseBool(text); !isBool && (!isText || err != nil) {
			return "is neither true nor false"
		}
	case s.value.Kind() == reflect.String:
		switch value.(type) {
		case []any, map[string]any, bool:
			return "is not a text"
		}
	}
	return ""
}

// check returns why the value is refused, nil if it is accepted.
func (s setting) check() error {
	if allowed, ok := s.tag.Lookup("oneof"); ok {
		if words := strings.Split(allowed, ", "); !slices.Contains(words, s.value.String()) {
			last := len(words) - 1
			return fmt.Errorf("%s: %q is not known; use %s or %s", s.key, s.value, strings.Join(words[:last], ", "), words[last])
		}
	}
	bounds, ok := s.tag.Lookup("range")
	if !ok {
		return nil
	}
	low, high, _ := strings.Cut(bounds, "..")
	least, most, value := s.parse(low), s.parse(high), s.value.Int()
	switch {
	case value >= least && value <= most:
		return nil
	case s.isDuration():
		return fmt.Errorf("%s: %s is not between %s and %s; write a duration with its unit, such as 90s, 30m or 720h", s.key, s.value.Interface(), low, high)
	case s.isPercent():
		return fmt.Errorf("%s: %s is not between %s and %s", s.key, s.value.Interface(), low, high)
	case strings.HasSuffix(low, "iB"):
		return fmt.Errorf("%s: %d is not between %d (%s) and %d (%s) bytes", s.key, value, least, low, most, high)
	}
	return fmt.Errorf("%s: %d is not between %d and %d", s.key, value, least, most)
}
