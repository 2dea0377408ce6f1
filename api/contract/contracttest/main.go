package contracttest

import (
	"flag"
	"fmt"
	"strings"
	"testing"
)

// Main runs the tests of a package. If these are all its tests, they must have had each
// answer of success in the contract.
type Main struct {
	M      *testing.M
	Docker bool // only answers of the Docker Engine API are asked for, or only others
}

// Run runs the tests and returns an exit code.
func (m Main) Run() int {
	code := m.M.Run()
	for _, name := range []string{"run", "skip", "fuzz", "list", "bench"} {
		if flag.Lookup("test."+name).Value.String() != "" {
			return code
		}
	}
	if unseen := Load().Unseen(m.Docker); code == 0 && len(unseen) > 0 {
		fmt.Printf("no test has had these answers of openapi.yaml:\n\t%s\n", strings.Join(unseen, "\n\t"))
		return 1
	}
	return code
}
