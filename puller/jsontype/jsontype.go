// Package jsontype says in words which type a field of JSON takes.
package jsontype

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// Wrong says which field of a request has a value of the wrong type, and what to write.
func Wrong(err *json.UnmarshalTypeError) string {
	return fmt.Sprintf("%s: a JSON %s is not what it takes; write %s", err.Field, err.Value, words(err.Type))
}

// words say what a type is in JSON.
func words(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return "a list of strings"
		}
		return "a list"
	case reflect.Map:
		if t.Elem().Kind() == reflect.String {
			return "an object of strings"
		}
	}
	return "an object"
}
