package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/peers"
	"github.com/towline/towline/puller/mirror/blobs"
	"github.com/towline/towline/puller/mirror/fetch"
	"github.com/towline/towline/puller/mirror/sharing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const kib = 1 << 10

// registry has one image, and counts what it sends.
type registry struct {
	repository string
	manifests  map[string][]byte
	blobs      map[string][]byte
	order      []string // of the blobs
	index      string   // the image's digest
	manifest   string   // that lists the blobs
	limiter    *rate.Limiter

	mu     sync.Mutex
	sent   int64            // bytes of blobs
	chunks map[string]int64 // the same of each chunk, by digest and index
	asked  int              // manifests
	denied map[int]bool     // machines that it shows nothing
	half   chan struct{}    // closed when it has sent half of the image, unless it is nil
}

// newRegistry returns one with an image of some layers.
func newRegistry(sizes ...int) *registry {
	r := &registry{repository: "registry.test/app", manifests: make(map[string][]byte), blobs: make(map[string][]byte), denied: make(map[int]bool), chunks: make(map[string]int64)}
	type object = map[string]any
	add := func(body []byte) object {
		id := digest.FromBytes(body).String()
		r.blobs[id] = body
		r.order = append(r.order, id)
		return object{"digest": id, "size": len(body), "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
	}
	m := object{"schemaVersion": 2, "config": add([]byte(`{"os":"linux"}`))}
	var layers []object
	for i, size := range sizes {
		body := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i + 1)}).Read(body)
		layers = append(layers, add(body))
	}
	m["layers"] = layers
	put := func(m object) string {
		body, _ := json.Marshal(m) // of maps and strings
		id := digest.FromBytes(body).String()
		r.manifests[id] = body
		return id
	}
	r.manifest = put(m)
	r.index = put(object{"schemaVersion": 2, "manifests": []object{{"digest": r.manifest, "size": 1}}})
	return r
}

// size is that of all blobs, in bytes.
func (r *registry) size() (n int64) {
	for _, b := range r.blobs {
		n += int64(len(b))
	}
	return n
}

func (r *registry) image() sharing.Image {
	return sharing.Image{Repository: r.repository, Digest: r.index}
}

// figures returns how many bytes of blobs, and how many manifests, were asked for.
func (r *registry) figures() (int64, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent, r.asked
}

// access is the registry as one machine knows it. It implements puller.Repository.
type access struct {
	*registry
	machine int
}

func (a access) check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.denied[a.machine] {
		return puller.Errorf(puller.ErrDenied, "no access")
	}
	return nil
}

func (a access) Manifest(_ context.Context, id string) (puller.RawManifest, error) {
	if err := a.check(); err != nil {
		return puller.RawManifest{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	body, ok := a.manifests[id]
	if !ok {
		return puller.RawManifest{}, puller.Errorf(puller.ErrNotFound, "no manifest %s", id)
	}
	return puller.RawManifest{Body: body, Digest: id}, nil
}

func (a access) Referrers(context.Context, string) (puller.RawManifest, error) {
	return puller.RawManifest{}, puller.Errorf(puller.ErrNotFound, "none")
}

func (a access) Blob(ctx context.Context, id string, from, to, size int64) (puller.BlobBody, error) {
	if err := a.check(); err != nil {
		return puller.BlobBody{}, err
	}
	body, ok := a.blobs[id]
	if !ok {
		return puller.BlobBody{}, puller.Errorf(puller.ErrNotFound, "no blob %s", id)
	}
	return puller.BlobBody{ReadCloser: &counted{access: a, ctx: ctx, digest: id, at: from, left: body[from:to]}, Whole: from == 0 && to == size}, nil
}

// counted is a body of the registry.
type counted struct {
	access
	ctx    context.Context
	digest string
	at     int64
	left   []byte
}

func (c *counted) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 4*kib)], c.left)
	if c.limiter != nil {
		if err := c.limiter.WaitN(c.ctx, n); err != nil {
			return 0, err
		}
	}
	c.left = c.left[n:]
	c.mu.Lock()
	c.sent += int64(n)
	c.chunks[fmt.Sprint(c.digest[7:11], "/", c.at/chunkSize)] += int64(n)
	c.at += int64(n)
	if c.half != nil && c.sent > c.size()/2 {
		close(c.half)
		c.half = nil
	}
	c.mu.Unlock()
	return n, nil
}

func (c *counted) Close() error { return nil }

// cluster is machines that share the image of a registry.
type cluster struct {
	*registry
	t   *testing.T
	all []*machine

	mu      sync.Mutex
	members []fleet.Member
	key     []byte
	memory  *memory // how machines reach each other; nil for TCP
	// strangers are machines that do not know the set.
	strangers map[string]bool
}

// machine is a host with all that fetches, keeps and gives blobs.
type machine struct {
	*cluster
	*peers.Node
	number  int
	name    string
	dir     string
	address string
	change  []option
	store   *blobs.Store
	fetcher *fetch.Fetcher
	access  access
	metrics *prometheus.Registry
	stop    func() // as if it was killed

	mu      sync.Mutex
	used    map[string]*blobs.Blob
	took    int64
	told    []string
	damages func(b *blobs.Blob) // that others ask for
	asked   chan struct{}       // receives one when another host asks, unless it is nil
}

// chunkSize is that of the machines of tests.
const chunkSize = 64 * kib

type option func(*peers.Options)

// newCluster starts machines in some zones. They reach each other without open files, and
// may be in a bubble of synctest.
func newCluster(t *testing.T, r *registry, machines, zones int, change ...option) *cluster {
	t.Helper()
	return newClusterOn(t, &memory{listeners: make(map[string]*memoryListener)}, r, machines, zones, change...)
}

// newClusterOn is newCluster for machines that reach each other by TCP, where m is nil.
func newClusterOn(t *testing.T, m *memory, r *registry, machines, zones int, change ...option) *cluster {
	t.Helper()
	c := &cluster{registry: r, t: t, key: []byte("a key of the group"), memory: m}
	for i := range machines {
		m := &machine{
			cluster: c, number: i, name: fmt.Sprintf("host-%d", i), dir: filepath.Join(t.TempDir(), "blobs"), change: change,
			access: access{r, i}, address: "127.0.0.1:0",
		}
		m.start()
		c.all = append(c.all, m)
		c.members = append(c.members, fleet.Member{Host: m.name, Zone: fmt.Sprint(i % zones), Address: m.address})
	}
	return c
}

// start has a machine keep blobs, and give what it has, until stop or the end of the test.
// After stop it starts with what was on its disk.
func (m *machine) start() {
	log := logrus.New()
	log.SetOutput(io.Discard)
	m.store = blobs.New(m.dir, blobs.Options{Cap: 1 << 30, Log: log, Block: kib})
	m.fetcher = fetch.New(fetch.Options{Chunk: chunkSize / 2})
	m.metrics = prometheus.NewRegistry()
	m.used = make(map[string]*blobs.Blob)
	o := peers.Options{Groups: m, Chunk: chunkSize, Log: log, Metrics: m.metrics}
	for _, f := range m.change {
		f(&o)
	}
	m.Node = peers.New(o)
	if err := m.store.Open(); err != nil {
		m.t.Fatal(err)
	}
	l, err := m.listen()
	if err != nil {
		m.t.Fatal(err)
	}
	m.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := m.Run(ctx, l, m); err != nil {
			m.t.Error(err)
		}
	}()
	m.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		m.store.Close()
	})
	m.t.Cleanup(m.stop)
}

func (m *machine) listen() (net.Listener, error) {
	if m.memory == nil {
		return net.Listen("tcp", m.address)
	}
	m.Dial(m.memory.dial)
	return m.memory.listen(fmt.Sprintf("%s:80", m.name)), nil
}

// Group implements fleet.Groups.
func (m *machine) Group(repository, digest string) (fleet.Group, bool) {
	m.cluster.mu.Lock()
	defer m.cluster.mu.Unlock()
	if repository != m.repository || digest != m.index {
		return fleet.Group{}, false
	}
	return fleet.Group{Set: "set", Generation: 7, Self: m.name, Members: m.members, Key: m.key}, true
}

// Keyed implements fleet.Groups.
func (m *machine) Keyed(set string, generation uint64, repository, digest string) (fleet.Group, bool) {
	select {
	case m.asked <- struct{}{}:
	default:
	}
	m.cluster.mu.Lock()
	strange := m.strangers[m.name]
	m.cluster.mu.Unlock()
	if set != "set" || generation != 7 || strange {
		return fleet.Group{}, false
	}
	return m.Group(repository, digest)
}

// Open implements sharing.Host.
func (m *machine) Open(context.Context, sharing.Image) (sharing.Held, error) {
	return held{source{m}}, nil
}

// source is a machine's access to the registry.
type source struct{ *machine }

func (s source) Manifest(ctx context.Context, id string) (puller.RawManifest, error) {
	return s.access.Manifest(ctx, id)
}

// Fetch implements sharing.Source.
func (s source) Fetch(ctx context.Context, b *blobs.Blob, r blobs.Range) error {
	return s.fetcher.Fetch(ctx, fetch.Work{Repository: s.access, Registry: "registry.test", Sinks: []fetch.Sink{part{b, r}}, Patient: true})
}

// part is a range of a blob as the fetcher knows it.
type part struct {
	*blobs.Blob
	of blobs.Range
}

func (s part) Below() int { return 0 }

func (s part) Missing() (missing []fetch.Range) {
	for _, r := range s.Blob.Missing() {
		if r.From, r.To = max(r.From, s.of.From), min(r.To, s.of.To); r.From < r.To {
			missing = append(missing, fetch.Range(r))
		}
	}
	return missing
}

func (s part) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.Blob.WriteAt(p, off)
	if puller.KindOf(err) == puller.ErrCorrupt {
		return len(p), nil
	}
	return n, err
}

// held is the image as a machine has it for others.
type held struct{ source }

func (h held) Read(ctx context.Context, id string) (puller.RawManifest, error) {
	return h.read(ctx, id)
}

func (m *machine) read(ctx context.Context, id string) (puller.RawManifest, error) {
	raw, err := m.Node.Manifest(ctx, m.image(), m.index, source{m})
	if err == nil && id != m.index {
		if !bytes.Contains(raw.Body, []byte(id)) {
			return raw, puller.Errorf(puller.ErrNotFound, "not of the image")
		}
		raw, err = m.Node.Manifest(ctx, m.image(), id, source{m})
	}
	if err != nil {
		return raw, err
	}
	var list struct{ Config, Layers json.RawMessage }
	if err := json.Unmarshal(raw.Body, &list); err != nil {
		return raw, err
	}
	return raw, nil
}

func (h held) Use(ctx context.Context, manifest, id string) (*blobs.Blob, func(), error) {
	raw, err := h.read(ctx, manifest)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Contains(raw.Body, []byte(id)) {
		return nil, nil, puller.Errorf(puller.ErrNotFound, "not of the manifest")
	}
	b, err := h.use(id)
	if err == nil && h.damages != nil {
		h.damages(b)
	}
	return b, func() {}, err
}

// use returns a blob, which stays in use.
func (m *machine) use(id string) (*blobs.Blob, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.used[id]; b != nil {
		return b, nil
	}
	b, err := m.store.Acquire(id, int64(len(m.blobs[id])))
	if err == nil {
		b.KeepWrong(true)
		m.used[id] = b
	}
	return b, err
}

// pull pulls the image as the accelerator does.
func (m *machine) pull(ctx context.Context) error {
	for _, id := range []string{m.index, m.manifest} {
		if _, err := m.read(ctx, id); err != nil {
			return fmt.Errorf("%s: manifest: %w", m.name, err)
		}
	}
	var all []sharing.Blob
	for _, id := range m.order {
		b, err := m.use(id)
		if err != nil {
			return err
		}
		all = append(all, sharing.Blob{Blob: b, Manifest: m.manifest})
	}
	err := m.Node.Fetch(ctx, m.image(), all, source{m}, sharing.Progress{
		Taken: func(n int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.took += int64(n)
		},
		Notice: func(message string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.told = append(m.told, message)
		},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	for _, b := range all {
		if !b.Whole() {
			return fmt.Errorf("%s: %s is not whole", m.name, b.Digest())
		}
	}
	return nil
}

// taken returns how many bytes came from others, and what people were told.
func (m *machine) taken() (int64, []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.took, slices.Clone(m.told)
}

// metric returns the sum of a counter over all of its labels.
func (m *machine) metric(name string) (n float64) {
	families, err := m.metrics.Gather()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "towline_fleet_peer_"+name {
			for _, one := range f.Metric {
				n += one.Counter.GetValue()
			}
		}
	}
	return n
}

// damage changes a byte of a whole blob on disk.
func (m *machine) damage(t *testing.T, id string, off int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(m.dir, strings.Replace(id, ":", "-", 1)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, off); err != nil {
		t.Fatal(err)
	}
	one[0]++
	if _, err := f.WriteAt(one, off); err != nil {
		t.Fatal(err)
	}
}

// pullAll has machines pull at the same time.
func pullAll(ctx context.Context, machines []*machine) error {
	var wait sync.WaitGroup
	failed := make([]error, len(machines))
	for i, m := range machines {
		wait.Go(func() { failed[i] = m.pull(ctx) })
	}
	wait.Wait()
	return errors.Join(failed...)
}
