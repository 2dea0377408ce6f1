package docker_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/enginetest"
)

// changed returns an answer with other values in some fields. A field whose value is nil is
// removed.
func changed(answer any, fields map[string]any) any {
	copied := maps.Clone(answer.(map[string]any))
	for name, value := range fields {
		if value == nil {
			delete(copied, name)
		} else {
			copied[name] = value
		}
	}
	return copied
}

func TestExitWrongAnswer(t *testing.T) {
	state := func(change map[string]any) func(call string, answer any) any {
		return func(call string, answer any) any {
			if call != "inspect" {
				return answer
			}
			inspect := answer.(map[string]any)
			return changed(inspect, map[string]any{"State": changed(inspect["State"], change)})
		}
	}
	whole := func(change map[string]any) func(call string, answer any) any {
		return func(call string, answer any) any {
			if call != "inspect" {
				return answer
			}
			return changed(answer, change)
		}
	}
	for name, change := range map[string]func(call string, answer any) any{
		"no status":         state(map[string]any{"Status": nil}),
		"an empty status":   state(map[string]any{"Status": ""}),
		"created":           state(map[string]any{"Status": "created"}),
		"removing":          state(map[string]any{"Status": "removing"}),
		"dead":              state(map[string]any{"Status": "dead"}),
		"running":           state(map[string]any{"Status": "running"}),
		"paused":            state(map[string]any{"Status": "paused"}),
		"restarting":        state(map[string]any{"Status": "restarting"}),
		"an unknown status": state(map[string]any{"Status": strings.Repeat("x", 100)}),
		"no exit code":      state(map[string]any{"ExitCode": nil}),
		"exit code -1":      state(map[string]any{"ExitCode": -1}),
		"a text as code":    state(map[string]any{"ExitCode": "0"}),
		"half a code":       state(map[string]any{"ExitCode": 0.5}),
		"a huge code":       state(map[string]any{"ExitCode": 1e30}),
		"no state":          whole(map[string]any{"State": nil}),
		"a list as state":   whole(map[string]any{"State": []int{}}),
		"no ID":             whole(map[string]any{"Id": nil}),
		"another ID":        whole(map[string]any{"Id": anotherID}),
		"nothing":           func(call string, answer any) any { return map[string]any{} },
		"null":              func(call string, answer any) any { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, enginetest.Print("up", "", 0), func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
				id := create(t, e, c)
				scripted.OnContainerAnswer(change)
				exit, err := e.Run(t.Context(), id, false, func() {}, func(puller.Output, []byte) {})
				if err == nil || len(err.Error()) > 1000 {
					t.Errorf("exit %+v, %v", exit, err)
				}
				exit, err = e.Follow(t.Context(), id, false, func(puller.Output, []byte) {})
				if err == nil {
					t.Errorf("Follow: exit %+v", exit)
				}
			})
		})
	}
}

// The end of a wait is only the time to inspect. Its answer does not count.
func TestWaitWrongAnswer(t *testing.T) {
	for name, fields := range map[string]map[string]any{
		"another code": {"StatusCode": 0},
		"no code":      {"StatusCode": nil},
		"-1":           {"StatusCode": -1},
		"an error":     {"Error": map[string]any{"Message": "context canceled"}},
		"no message":   {"Error": map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, enginetest.Print("up", "", 3), func(t *testing.T, e *docker.Engine, scripted *enginetest.Engine, c engines.Container) {
				id := create(t, e, c)
				scripted.OnContainerAnswer(func(call string, answer any) any {
					if call == "wait" {
						return changed(answer, fields)
					}
					return answer
				})
				if exit, err := e.Run(t.Context(), id, false, func() {}, func(puller.Output, []byte) {}); err == nil && exit.Code != 3 {
					t.Errorf("exit %+v", exit)
				}
			})
		})
	}
}

func TestEventsWrongAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		events string
		want   engines.ContainerEvents
		fails  bool
	}{
		"correct":        {`{"Type":"container","Action":"start","Actor":{"ID":"ID"}}{"Type":"container","Action":"die","Actor":{"ID":"ID"}}`, engines.ContainerEvents{Start: true, Exit: true}, false},
		"nothing":        {``, engines.ContainerEvents{Complete: true}, false},
		"only the exit":  {`{"Type":"container","Action":"die","Actor":{"ID":"ID"}}`, engines.ContainerEvents{Exit: true, Complete: true}, false},
		"the wrong way":  {`{"Type":"container","Action":"die","Actor":{"ID":"ID"}}{"Type":"container","Action":"start","Actor":{"ID":"ID"}}`, engines.ContainerEvents{Exit: true, Complete: true}, false},
		"of another":     {`{"Type":"container","Action":"start","Actor":{"ID":"x"}}{"Type":"container","Action":"die","Actor":{"ID":"x"}}`, engines.ContainerEvents{Complete: true}, false},
		"of an image":    {`{"Type":"image","Action":"start","Actor":{"ID":"ID"}}{"Type":"image","Action":"die","Actor":{"ID":"ID"}}`, engines.ContainerEvents{Complete: true}, false},
		"no fields":      {`{}{}`, engines.ContainerEvents{Complete: true}, false},
		"very many":      {strings.Repeat(`{"Type":"container","Action":"exec_die"}`, 64), engines.ContainerEvents{}, false},
		"no JSON":        {`kaput`, engines.ContainerEvents{}, true},
		"half an event":  {`{"Type":"container","Acti`, engines.ContainerEvents{}, true},
		"a list":         {`[]`, engines.ContainerEvents{}, true},
		"a huge one":     {"huge", engines.ContainerEvents{}, true},
		"no state":       {`no state`, engines.ContainerEvents{}, true},
		"no times":       {`no times`, engines.ContainerEvents{}, false},
		"times reversed": {`reversed`, engines.ContainerEvents{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			state := `{"Status": "exited", "ExitCode": 0, "StartedAt": "2026-01-01T00:00:00Z", "FinishedAt": "2026-01-01T00:00:01Z"}`
			switch c.events {
			case "no state":
				state = `null`
			case "no times":
				state = `{"Status": "exited", "ExitCode": 0}`
			case "reversed":
				state = `{"Status": "exited", "ExitCode": 0, "StartedAt": "2026-01-01T00:00:01Z", "FinishedAt": "0001-01-01T00:00:00Z"}`
			}
			e := newAnsweringEngine(t, map[string]string{
				"GET /containers/" + anID + "/json": `{"Id": "` + anID + `", "State": ` + state + `}`,
				"GET /events":                       strings.ReplaceAll(c.events, `"ID":"ID"`, `"ID":"`+anID+`"`),
			})
			w, err := e.ContainerEvents(t.Context(), anID)
			if (err != nil) != c.fails || err == nil && w != c.want || err != nil && len(err.Error()) > 1000 {
				t.Errorf("got %+v, %.1000v", w, err)
			}
		})
	}
}
