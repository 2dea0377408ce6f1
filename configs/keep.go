package configs

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/towline/towline/puller/rules"
)

// Keep says which images may be collected, and how much of the disk is left free.
type Keep struct {
	Collect     string        `mapstructure:"collect" default:"off" oneof:"off, own, all"`
	High        Percent       `mapstructure:"high" default:"85%" range:"1%..100%"` // of the disk, from which images are removed …
	Low         Percent       `mapstructure:"low" default:"80%" range:"1%..100%"`  // … until it is below
	Reserve     int64         `mapstructure:"reserve" default:"2GiB" range:"0MiB..1024TiB"`
	MinAge      time.Duration `mapstructure:"min_age" default:"1h" range:"0s..87600h"`
	MaxUnused   time.Duration `mapstructure:"max_unused" default:"0s" range:"0s..87600h"` // 0 is for never
	Interval    time.Duration `mapstructure:"interval" default:"5m" range:"10s..24h"`
	Protect     []string      `mapstructure:"protect"` // patterns as in rules.pull.deny
	MaxPerCycle int           `mapstructure:"max_per_cycle" default:"20" range:"1..10000"`
	SetsDir     string        `mapstructure:"sets_dir" default:"/etc/towline/sets.d"` // of files of sets; "" for none
	// Learn makes a set of what containers were started from within LearnFor. It is refreshed
	// by LearnSchedule, if there is one.
	Learn         bool          `mapstructure:"learn" default:"false"`
	LearnFor      time.Duration `mapstructure:"learn_for" default:"168h" range:"1h..87600h"`
	LearnSchedule string        `mapstructure:"learn_schedule"`
}

// check returns the first fault that the tags do not say.
func (k Keep) check() error {
	if k.Low > k.High {
		return fmt.Errorf("keep.low: %s is above keep.high, which is %s; images are removed from keep.high on until the disk is below keep.low", k.Low, k.High)
	}
	if k.MaxUnused > 0 && k.MaxUnused < k.MinAge {
		return fmt.Errorf("keep.max_unused: %s is less than keep.min_age, which is %s", k.MaxUnused, k.MinAge)
	}
	if k.SetsDir != "" && !filepath.IsAbs(k.SetsDir) {
		return fmt.Errorf("keep.sets_dir: %q is not an absolute path", k.SetsDir)
	}
	_, err := rules.ParsePatterns("keep.protect", k.Protect)
	return err
}

// Percent is a share in hundredths.
type Percent int

// String writes it as it is written in the file.
func (p Percent) String() string { return strconv.Itoa(int(p)) + "%" }

// Share returns it as a number from 0 to 1.
func (p Percent) Share() float64 { return float64(p) / 100 }

func parsePercent(written string) (Percent, error) {
	digits, ok := strings.CutSuffix(written, "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, fmt.Errorf("%.40q is not a percentage; write a whole number with its sign, such as 85%%", written)
	}
	return Percent(n), nil
}

// percentHook reads percentages such as 85%.
func percentHook(from, to reflect.Type, value any) (any, error) {
	if to != reflect.TypeFor[Percent]() || from == to {
		return value, nil
	}
	return parsePercent(fmt.Sprint(value))
}
