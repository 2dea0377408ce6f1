package puller_test

import (
	"encoding/json"
	"testing"

	"github.com/towline/towline/puller"
)

// Only what is written as 0 is no limit: what rounds to 0 is refused.
func TestRunLimits(t *testing.T) {
	const refused = -1
	for field, cases := range map[string]map[string]float64{
		"memory": {
			`0`: 0, `"0"`: 0, `"0m"`: 0, `"0.0"`: 0, `0e5`: 0, `null`: 0, `1`: 1, `1.5`: 1, `"1k"`: 1 << 10, `"0.5k"`: 512, `"512 MiB"`: 512 << 20, `1e3`: 1000,
			`0.5`: refused, `"0.5"`: refused, `"0.5b"`: refused, `"0.0000001k"`: refused, `1e-400`: refused, `"1e-30g"`: refused, `"0x.ap-0"`: refused,
			`-1`: refused, `"-0.5"`: refused, `"1e30"`: refused, `9223372036854775808`: refused, `""`: refused, `"m"`: refused, `"NaN"`: refused, `"inf"`: refused,
		},
		"cpus": {
			`0`: 0, `0.0`: 0, `-0`: 0, `0e9`: 0, `null`: 0, `0.01`: 0.01, `1.5`: 1.5, `1024`: 1024,
			`1e-400`: refused, `-1e-400`: refused, `0.0099`: refused, `1e-9`: refused, `-1`: refused, `1025`: refused, `1e400`: refused, `"1"`: refused, `""`: refused, `{}`: refused,
		},
		"pids": {`0`: 0, `null`: 0, `1`: 1, `0.5`: refused, `1e-400`: refused, `"1"`: refused},
	} {
		for written, want := range cases {
			t.Run(field+" "+written, func(t *testing.T) {
				var r puller.RunRequest
				err := json.Unmarshal([]byte(`{"`+field+`":`+written+`}`), &r)
				got := map[string]float64{"memory": float64(r.Memory), "cpus": float64(r.CPUs), "pids": float64(r.Pids)}[field]
				if (err != nil) != (want == refused) || err == nil && got != want {
					t.Errorf("it is read as %g, %v, and not as %g", got, err, want)
				}
			})
		}
	}
}
