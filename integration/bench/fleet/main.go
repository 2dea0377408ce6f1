// Fleet measures how long it takes until all hosts of a fleet have proven an image, and how
// many bytes the registry sends for it. The hosts have a dockerd and a towline each, in
// network namespaces, and share one link to the registry. Beside it, in the same round: all
// hosts pull by themselves as with docker pull, and one host alone does. A figure is the
// median of the rounds, with the least and the most.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
)

type options struct {
	hosts, runs, layers int
	layerMB, uplinkMB   int64
	kill                bool
}

func main() {
	var o options
	flag.IntVar(&o.hosts, "hosts", 8, "how many hosts there are")
	flag.IntVar(&o.runs, "runs", 3, "rounds")
	flag.IntVar(&o.layers, "layers", 4, "layers of the image")
	flag.Int64Var(&o.layerMB, "layer", 50, "MB of a layer, which nothing can compress")
	flag.Int64Var(&o.uplinkMB, "uplink", 50, "MB a second that the registry's link has for all hosts")
	flag.BoolVar(&o.kill, "kill", false, "kill the host that has given most to others, once half of the image has come")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// site is what all rounds share.
type site struct {
	options
	registry *lab.Registry
	link     *lab.Link
	engines  []*lab.Engine
	fleet    *lab.Fleet
	images   int64
	before   int64 // bytes that the link had passed before the present image
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "tl")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := lab.BuildTowline(ctx, dir)
	if err != nil {
		return err
	}
	network, err := lab.StartNetwork(ctx, o.hosts)
	if err != nil {
		return err
	}
	defer network.Close()
	s := &site{options: o, images: time.Now().UnixNano(), engines: make([]*lab.Engine, o.hosts)}
	defer func() {
		each(o.hosts, func(i int) error {
			if s.engines[i] == nil {
				return nil
			}
			return s.engines[i].Close()
		})
	}()
	err = each(o.hosts, func(i int) (err error) {
		s.engines[i], err = lab.Private(ctx, filepath.Join(dir, fmt.Sprint("e", i)), lab.PrivateOptions{
			Namespace: network.Hosts[i].Namespace, Flags: []string{"--insecure-registry=" + network.Range},
		})
		return err
	})
	if err != nil {
		return err
	}
	if s.registry, err = lab.StartRegistry(lab.RegistryOptions{}); err != nil {
		return err
	}
	defer s.registry.Close()
	if s.link, err = lab.StartLink(s.registry.Addr(), lab.LinkOptions{Listen: network.Address + ":0", Total: o.uplinkMB * 1e6}); err != nil {
		return err
	}
	defer s.link.Close()
	if s.fleet, err = lab.StartFleet(ctx, lab.FleetOptions{Bin: bin, Dir: dir, Network: network, Engines: s.engines}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.fleet.Close()) }()
	var results []round
	for n := range o.runs {
		r, err := s.round(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("round %d: %s\n", n+1, r)
		results = append(results, r)
	}
	s.print(results)
	return nil
}

// round is what one round measures. Bytes are times those of the image.
type round struct {
	fleet, themselves, alone time.Duration
	passed                   time.Duration // when as many bytes as the image has had passed the link
	arrived                  time.Duration // when the last byte had come to the last host of the fleet
	bytes, ownBytes          float64
}

func (r round) String() string {
	return fmt.Sprintf("the fleet %.2f s (the image over the link after %.2f s, all bytes at all hosts after %.2f s) and × %.3f of the bytes, by themselves %.2f s and × %.3f, one alone %.2f s",
		r.fleet.Seconds(), r.passed.Seconds(), r.arrived.Seconds(), r.bytes, r.themselves.Seconds(), r.ownBytes, r.alone.Seconds())
}

func (s *site) round(ctx context.Context) (r round, err error) {
	size := float64(s.layers) * float64(s.layerMB) * 1e6
	r.fleet, err = s.measure(ctx, func(ref string) error {
		watching, stop := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() { r.arrived = s.lastArrival(watching) })
		watch.Go(func() { r.passed = s.passing(watching, int64(size)) })
		defer watch.Wait()
		defer stop()
		generation, err := s.apply(ctx, ref)
		if err == nil && s.kill {
			err = s.killBusiest(ctx, int64(size/2))
		}
		if err == nil {
			_, err = s.fleet.Hosts[0].Client.Fleet().WaitSet(ctx, "bench", generation)
		}
		return err
	})
	r.bytes = float64(s.sent()) / size
	if err != nil || s.kill {
		return r, err
	}
	if r.themselves, err = s.measure(ctx, func(ref string) error {
		return each(s.hosts, func(i int) error { return s.pull(ctx, i, ref) })
	}); err != nil {
		return r, err
	}
	r.ownBytes = float64(s.sent()) / size
	r.alone, err = s.measure(ctx, func(ref string) error { return s.pull(ctx, s.hosts-1, ref) })
	return r, err
}

// passing returns when so many bytes have passed the link.
func (s *site) passing(ctx context.Context, bytes int64) time.Duration {
	began := time.Now()
	for s.sent() < bytes && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return time.Since(began)
}

// lastArrival returns when the last byte has come to a host, from another host or over the
// link, as it looks until ctx ends.
func (s *site) lastArrival(ctx context.Context) (last time.Duration) {
	began, most := time.Now(), 0.0
	for {
		taken := make([]float64, s.hosts)
		at := time.Now()
		if each(s.hosts, func(i int) (err error) {
			taken[i], err = s.fleet.Hosts[i].Metric(ctx, "towline_fleet_peer_taken_bytes_total")
			return err
		}) != nil {
			return last // it ends, or the host was killed
		}
		all := float64(s.sent())
		for _, n := range taken {
			all += n
		}
		if all-most > 1e6 { // less is manifests
			last, most = at.Sub(began), all
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// measure returns how long something takes with a new image. All hosts forget the image.
func (s *site) measure(ctx context.Context, do func(ref string) error) (time.Duration, error) {
	s.images++
	image, err := lab.RandomImage(s.images, s.layers, s.layerMB*1e6, "linux/amd64")
	if err != nil {
		return 0, err
	}
	repo := fmt.Sprint("bench-", s.images)
	if _, err := s.registry.Push(ctx, repo, "v1", image); err != nil {
		return 0, err
	}
	ref := s.link.Addr() + "/" + repo + ":v1"
	s.before = s.link.Passed()
	began := time.Now()
	if err := do(ref); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if _, err := s.fleet.Hosts[0].Client.Fleet().DeleteSet(ctx, "bench"); err != nil && puller.KindOf(err) != puller.ErrNotFound {
		return 0, err
	}
	return took, each(s.hosts, func(i int) error { return s.engines[i].RemoveImage(ctx, ref) })
}

func (s *site) apply(ctx context.Context, ref string) (generation uint64, err error) {
	set, err := s.fleet.Hosts[0].Client.Fleet().PutSet(ctx, "bench", client.FleetSetRequest{Images: []client.PullRequest{{Image: ref}}, Priority: puller.PriorityHigh})
	return set.Generation, err
}

// pull has an engine pull an image by itself, as docker pull does.
func (s *site) pull(ctx context.Context, i int, ref string) error {
	repo, tag, _ := strings.Cut(strings.TrimPrefix(ref, s.link.Addr()), ":")
	resp, err := s.engines[i].Do(ctx, "POST", "/images/create?fromImage="+s.link.Addr()+repo+"&tag="+tag, nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if found, err := s.engines[i].HasImage(ctx, ref); err != nil || !found {
		return errors.Join(fmt.Errorf("%s is not there after a pull: %s: %.500s", ref, resp.Status, text), err)
	}
	return nil
}

// killBusiest kills, once so many bytes have come, the host that has given most to others,
// and starts it again.
func (s *site) killBusiest(ctx context.Context, bytes int64) error {
	err := lab.Poll(ctx, 20*time.Millisecond, func(context.Context) error {
		if n := s.sent(); n < bytes {
			return fmt.Errorf("%d of %d bytes", n, bytes)
		}
		return nil
	})
	if err != nil {
		return err
	}
	busiest, most := s.fleet.Hosts[1], -1.0
	for _, h := range s.fleet.Hosts[1:] {
		given, err := h.Metric(ctx, "towline_fleet_peer_given_bytes_total")
		if err != nil {
			return err
		}
		if given > most {
			busiest, most = h, given
		}
	}
	busiest.Kill()
	fmt.Printf("killed %s, which had given %.0f MB\n", busiest.ID, most/1e6)
	return busiest.Start(ctx)
}

// sent returns the bytes that the registry's link has passed for the present image. The
// registry itself counts what waits in buffers too.
func (s *site) sent() int64 { return s.link.Passed() - s.before }

func (s *site) print(all []round) {
	figure := func(what string, of func(round) float64) {
		values := make([]float64, len(all))
		for i, r := range all {
			values[i] = of(r)
		}
		slices.Sort(values)
		fmt.Printf("%s: %.2f [%.2f … %.2f]\n", what, values[len(values)/2], values[0], values[len(values)-1])
	}
	figure("the fleet, s", func(r round) float64 { return r.fleet.Seconds() })
	figure("the image over the link, s", func(r round) float64 { return r.passed.Seconds() })
	figure("all bytes at all hosts of the fleet, s", func(r round) float64 { return r.arrived.Seconds() })
	figure("bytes of the registry ÷ bytes of the image", func(r round) float64 { return r.bytes })
	if s.kill {
		return
	}
	figure("all by themselves, s", func(r round) float64 { return r.themselves.Seconds() })
	figure("one alone, s", func(r round) float64 { return r.alone.Seconds() })
	figure("by themselves ÷ the fleet", func(r round) float64 { return r.themselves.Seconds() / r.fleet.Seconds() })
	figure("by themselves ÷ all bytes at all hosts", func(r round) float64 { return r.themselves.Seconds() / r.arrived.Seconds() })
	figure("the fleet ÷ one alone", func(r round) float64 { return r.fleet.Seconds() / r.alone.Seconds() })
}

// each calls do for 0 to n-1 at the same time, and returns all errors.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = do(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}
