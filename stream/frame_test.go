package stream_test

import (
	"testing"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

func TestFormats(t *testing.T) {
	type layer struct {
		Type  string            `json:"type"`
		Job   string            `json:"job"`
		Layer pullstream.Layer  `json:"layer"`
		Sum   pullstream.Totals `json:"progress"`
	}
	tests := []struct {
		name, job   string
		frame       stream.Frame
		ndjson, sse string
	}{
		{
			"numbered", "01J0", stream.NewFrame(12, "state", event{Seq: 12, Type: "state", Word: "active"}),
			`{"seq":12,"type":"state","job":"01J0","word":"active"}` + "\n",
			"id: 12\nevent: state\n" + `data: {"seq":12,"type":"state","job":"01J0","word":"active"}` + "\n\n",
		},
		{
			"unnumbered", "01J0",
			stream.NewFrame(0, "layer", layer{Type: "layer", Layer: pullstream.Layer{ID: "a1b2c3d4e5f6", Phase: pullstream.Downloading, Current: 5, Total: 9}, Sum: pullstream.Totals{Downloaded: 5, Total: 9, Layers: 1}}),
			`{"type":"layer","job":"01J0","layer":{"id":"a1b2c3d4e5f6","phase":"downloading","current":5,"total":9},"progress":{"downloaded":5,"extracted":0,"total":9,"layers":1,"layers_done":0,"layers_existing":0}}` + "\n",
			"event: layer\n" + `data: {"type":"layer","job":"01J0","layer":{"id":"a1b2c3d4e5f6","phase":"downloading","current":5,"total":9},"progress":{"downloaded":5,"extracted":0,"total":9,"layers":1,"layers_done":0,"layers_existing":0}}` + "\n\n",
		},
		{
			"of a job of its own", "01J0", stream.NewFrame(1, "result", event{Seq: 1, Type: "result", Job: "01J9"}),
			`{"seq":1,"type":"result","job":"01J9","word":""}` + "\n",
			"id: 1\nevent: result\n" + `data: {"seq":1,"type":"result","job":"01J9","word":""}` + "\n\n",
		},
		{
			"with a text that looks like a job and a line end", "01J0", stream.NewFrame(0, "log", map[string]string{"aaa": `"job":""` + "\r\n", "job": ""}),
			`{"aaa":"\"job\":\"\"\r\n","job":"01J0"}` + "\n",
			"event: log\n" + `data: {"aaa":"\"job\":\"\"\r\n","job":"01J0"}` + "\n\n",
		},
		{
			"of no job", "01J0", stream.NewFrame(0, "heartbeat", struct{}{}),
			"{}\n", "event: heartbeat\ndata: {}\n\n",
		},
	}
	for _, test := range tests {
		for range 2 { // a frame does not change
			if got := string(stream.NDJSON.Append([]byte("before "), &test.frame, test.job)); got != "before "+test.ndjson {
				t.Errorf("%s: NDJSON is\n%q, want\n%q", test.name, got, test.ndjson)
			}
			if got := string(stream.SSE.Append([]byte("before "), &test.frame, test.job)); got != "before "+test.sse {
				t.Errorf("%s: SSE is\n%q, want\n%q", test.name, got, test.sse)
			}
			stream.NDJSON.Append(nil, &test.frame, "another job")
		}
	}
}

func TestNewFramePanicsWithoutJSON(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a channel became a frame")
		}
	}()
	stream.NewFrame(1, "state", make(chan int))
}
