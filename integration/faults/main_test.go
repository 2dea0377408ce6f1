package faults_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/towline/towline/integration/lab"
)

// site is what the tests share. Each has its own registry, its own daemon and
// its own images, so that one test's fault is no other's.
var site struct {
	err error // why there is no engine
	dir string
	bin string
	// engine is hurt by no test. It tries a layer once: what is to be seen here
	// is what Towline does, not dockerd's own 50 s of trying again.
	engine *lab.Engine
	// fragile are killed, stopped and paused, each by one test at a time, which
	// leaves it as it was. They are as engines are by default.
	fragile chan *lab.Engine
}

func TestMain(m *testing.M) {
	os.Exit(lab.WithTowline(func(ctx context.Context, dir, bin string) (int, error) { return run(ctx, m, dir, bin) }))
}

func run(ctx context.Context, m *testing.M, dir, bin string) (code int, err error) {
	site.dir, site.bin = dir, bin
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set { // the tests mostly wait
		flag.Set("test.parallel", "10")
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy's
	site.engine, site.err = lab.Private(ctx, site.dir+"/e", lab.PrivateOptions{
		Flags: []string{"--max-download-attempts=1", "--max-concurrent-downloads=64"},
	})
	if site.err != nil {
		return m.Run(), nil
	}
	defer site.engine.Close()
	site.fragile = make(chan *lab.Engine, 2)
	for i := range cap(site.fragile) {
		engine, err := lab.Private(ctx, fmt.Sprintf("%s/f%d", site.dir, i), lab.PrivateOptions{})
		if err != nil {
			return 0, err
		}
		defer engine.Close()
		site.fragile <- engine
	}
	code = m.Run()
	// No pull is left behind in the engine either.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = lab.Poll(ctx, time.Second, func(ctx context.Context) error {
		left, err := site.engine.Pulling()
		if len(left) > 0 {
			err = fmt.Errorf("the engine still pulls:\n%s", strings.Join(left, "\n\n"))
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return code, nil
}
