package puller_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/towline/towline/puller/jsontype"
)

func TestWrongType(t *testing.T) {
	for body, want := range map[string]string{
		`{"image": 5}`:         "image: a JSON number is not what it takes; write a string",
		`{"retries": 1.5}`:     "retries: a JSON number 1.5 is not what it takes; write a whole number",
		`{"retries": "x"}`:     "retries: a JSON string is not what it takes; write a whole number",
		`{"tty": "x"}`:         "tty: a JSON string is not what it takes; write true or false",
		`{"cmd": "x"}`:         "cmd: a JSON string is not what it takes; write a list of strings",
		`{"cmd": [5]}`:         "cmd: a JSON number is not what it takes; write a string",
		`{"env": ["A=b"]}`:     "env: a JSON array is not what it takes; write an object of strings",
		`{"rollout": "x"}`:     "rollout: a JSON string is not what it takes; write an object",
		`{"rollout": {"a":1}}`: "rollout.a: a JSON number is not what it takes; write a string",
		`{"share": "x"}`:       "share: a JSON string is not what it takes; write a number",
		`{"all": "x"}`:         "all: a JSON string is not what it takes; write a list",
	} {
		var request struct {
			Image   string            `json:"image"`
			Retries *int              `json:"retries"`
			TTY     bool              `json:"tty"`
			Cmd     []string          `json:"cmd"`
			Env     map[string]string `json:"env"`
			Rollout struct {
				A string `json:"a"`
			} `json:"rollout"`
			Share float64 `json:"share"`
			All   []int   `json:"all"`
		}
		err := json.Unmarshal([]byte(body), &request)
		var typ *json.UnmarshalTypeError
		if !errors.As(err, &typ) {
			t.Errorf("%s: %v", body, err)
		} else if got := jsontype.Wrong(typ); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
