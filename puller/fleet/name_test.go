package fleet_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

func TestNames(t *testing.T) {
	for what, c := range map[string]struct {
		check     func(string) error
		good, bad []string
	}{
		"name":  {fleet.CheckFleetName, []string{"ci", "render-2", "0"}, []string{"", "-a", "CI", "a_b", "a.b", "a b", "a*", strings.Repeat("a", 33)}},
		"host":  {fleet.CheckHost, []string{"build-7", "01M7Y1W6YA", "a_b"}, []string{"", "_a", "a.b", "a>", "a*", "ä", "a/b", strings.Repeat("a", 65)}},
		"zone":  {fleet.CheckZone, []string{"", "eu.west-1", "Rack_7"}, []string{"a b", "a/b", "a\n", strings.Repeat("a", 64)}},
		"named": {fleet.CheckSetName, []string{"web", "web-2_a"}, []string{"", ".", "web.api", "Web", "web>", strings.Repeat("a", 51)}},
	} {
		t.Run(what, func(t *testing.T) {
			for _, name := range c.good {
				if err := c.check(name); err != nil {
					t.Errorf("%q: %v", name, err)
				}
			}
			for _, name := range c.bad {
				if err := c.check(name); puller.KindOf(err) != puller.ErrInvalidRequest || !strings.Contains(err.Error(), ": ") {
					t.Errorf("%q: %v", name, err)
				}
			}
		})
	}
	// The name that a set has on a host is one that sets may have.
	if err := keep.CheckSetName(keep.FleetPrefix + strings.Repeat("a", fleet.MaxSetName)); err != nil {
		t.Error(err)
	}
}

func TestLabels(t *testing.T) {
	many := make(map[string]string)
	for i := range 33 {
		many[strings.Repeat("a", i+1)] = "x"
	}
	for fault, labels := range map[string]map[string]string{
		"":                         {"role": "ci", "rack": "A.7"},
		`labels: the label "host"`: {"host": "a"},
		`labels: the label "zone"`: {"zone": "a"},
		`labels: the label "Role"`: {"Role": "ci"},
		`labels: the label "role" has the value ""`:    {"role": ""},
		`labels: the label "rack" has the value "a b"`: {"rack": "a b"},
		"labels: 33 labels":                            many,
	} {
		err := fleet.CheckLabels("labels", labels)
		if fault == "" && err != nil || fault != "" && (puller.KindOf(err) != puller.ErrInvalidRequest || !strings.HasPrefix(err.Error(), fault)) {
			t.Errorf("%v gives %v, not %q", labels, err, fault)
		}
	}
}
