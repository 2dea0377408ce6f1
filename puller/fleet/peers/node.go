package peers

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers/tree"
	"github.com/towline/towline/puller/fleet/peers/wire"
	"github.com/towline/towline/puller/mirror/sharing"
)

// Options are what a Node is made with.
type Options struct {
	Groups     fleet.Groups
	UploadRate int64                 // bytes a second that it gives to others; 0 is without limit
	Chunk      int64                 // bytes; DefaultChunk, and the same on all hosts
	Log        logrus.FieldLogger    //
	Metrics    prometheus.Registerer // nil for none
}

// timing is how long things may take.
type timing struct {
	// busy is how long hosts that are busy are asked again before the registry is.
	busy time.Duration
	// strange is how long hosts are asked again that do not know the set: a generation
	// comes to some earlier than to others.
	strange time.Duration
	// patience is how long a host may bring less than least of a chunk.
	patience time.Duration
	look     time.Duration // how long the next host is asked for what it has
	others   time.Duration // how long all hosts are asked for what the registry does not give
	pause    time.Duration // before the same is asked again
	proven   time.Duration // how long it is looked for a host that has proven a blob

	// Of who is asked: how long it waits for a byte to come, for its turn, and for a byte
	// after others, and how long it sends.
	wait, turn, still, send time.Duration
	gap, answer             time.Duration // for the other host to take bytes, and in all
	linger                  time.Duration // how long something is brought after the request for it
}

var defaults = timing{
	busy: time.Minute, strange: 15 * time.Second, patience: time.Minute, look: 2 * time.Second, others: 20 * time.Second, pause: 200 * time.Millisecond, proven: 10 * time.Second,
	wait: 4 * time.Second, turn: 2 * time.Second, still: time.Second, send: 20 * time.Second,
	gap: 10 * time.Second, answer: 40 * time.Second,
	linger: 10 * time.Second,
}

// inTime is how long other hosts may take to answer.
var inTime = wire.Timing{Head: 15 * time.Second, Gap: 10 * time.Second, Answer: 40 * time.Second}

// Node is this host among those that share images. It implements sharing.Peers: its methods
// may be called from anywhere.
type Node struct {
	o         Options
	timing    timing
	client    *wire.Client
	standing  tree.Standing
	flights   flights
	end       context.CancelCauseFunc
	metrics   *metrics
	limiter   *rate.Limiter                          // of what it gives; nil for none
	manifests *lru.Cache[string, puller.RawManifest] // small ones, by repository and digest
	sums      *lru.Cache[string, []byte]             // of whole blobs, by digest
	barred    *lru.Cache[sharing.Image, time.Time]   // until when the registry does not give them
	unknown   *lru.Cache[sharing.Image, time.Time]   // since when their members are not known
	missed    *lru.Cache[string, time.Time]          // the same of single flights
	summing   sync.Mutex                             // held while they are computed
	bringing  sync.Map                               // keys of flights that wait for no host before this one
	givers    givers
}

var _ sharing.Peers = (*Node)(nil)

var errEnded = errors.New("the host has left its peers")

// New returns a Node. It gives nothing before Run.
func New(o Options) *Node {
	o.Chunk = cmp.Or(o.Chunk, DefaultChunk)
	n := &Node{o: o, timing: defaults, metrics: newMetrics(o.Metrics), client: wire.NewClient(inTime, nil)}
	n.flights.all = make(map[string]*flight)
	n.flights.ctx, n.end = context.WithCancelCause(context.Background())
	if o.UploadRate > 0 {
		n.limiter = rate.NewLimiter(rate.Limit(o.UploadRate), max(wire.Piece, int(min(o.UploadRate/4, 4<<20))))
	}
	n.manifests, _ = lru.New[string, puller.RawManifest](256) // the sizes are right
	n.sums, _ = lru.New[string, []byte](256)
	n.unknown, _ = lru.New[sharing.Image, time.Time](256)
	n.missed, _ = lru.New[string, time.Time](4096)
	n.barred, _ = lru.New[sharing.Image, time.Time](256)
	return n
}

// Run gives what a host has to those that connect to a listener, until ctx ends. Without a
// listener it gives nothing, and this host takes only. It closes the listener.
func (n *Node) Run(ctx context.Context, l net.Listener, host sharing.Host) error {
	defer n.flights.work.Wait()
	defer n.client.Close()
	defer n.end(errEnded)
	if l == nil {
		<-ctx.Done()
		return nil
	}
	return n.serve(ctx, l, host)
}

// Shares implements sharing.Peers.
func (n *Node) Shares(i sharing.Image) bool {
	g, ok := n.o.Groups.Group(i.Repository, i.Digest)
	if !ok {
		return false
	}
	for _, m := range g.Members {
		if m.Host != g.Self && m.Address != "" {
			return true
		}
	}
	return len(g.Members) == 0 // it is not known yet
}

// await waits until the members of a group are known: this host asks for them when it gets a
// set. Where nobody answers, it goes on without them.
func (n *Node) await(ctx context.Context, i sharing.Image) {
	for {
		g, ok := n.o.Groups.Group(i.Repository, i.Digest)
		if !ok || len(g.Members) > 0 {
			n.unknown.Remove(i)
			return
		}
		n.unknown.ContainsOrAdd(i, time.Now())
		if since, _ := n.unknown.Get(i); ctx.Err() != nil || time.Since(since) > n.timing.strange {
			return
		}
		sleep(ctx, n.timing.pause)
	}
}
