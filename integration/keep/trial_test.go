package keep_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

var (
	keepRounds = flag.Int("keeprounds", 10, "how many rounds the trial of keeping images has, alone and beside another collector")
	keepSeed   = flag.Uint64("keepseed", 0, "the seed of the trial of keeping images, as an earlier one has logged it; 0 for a new one")
)

// Whatever is pulled, run, leased, collected and restarted, in any order: nothing that is
// protected vanishes, the disk never gets full, and no pull fails for want of space that
// could have been collected.
func TestKeepTrial(t *testing.T) {
	t.Run("alone", func(t *testing.T) { testKeepTrial(t, false) })
	t.Run("beside a script that prunes", func(t *testing.T) { testKeepTrial(t, true) })
}

const trialConfig = "keep: {collect: own, high: 75%, low: 60%, reserve: 16MiB, min_age: 0s, interval: 10s}\n"

func testKeepTrial(t *testing.T, pruned bool) {
	seed := *keepSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("the seed is %d", seed)
	x := &trial{
		small: newSmall(t, trialConfig), random: rand.New(rand.NewPCG(seed, 2)), beside: pruned,
		size: make(map[string]int64), theirs: make(map[string]bool), ours: make(map[string]string), leases: make(map[string]trialLease), sets: make(map[string]string), counts: make(map[string]int), removed: make(map[string]bool), pruned: make(map[string]bool), begun: time.Now(),
	}
	watched := x.watchDisk()
	for round := range *keepRounds {
		x.round(round)
		if t.Failed() {
			break
		}
	}
	least := watched()
	t.Logf("%d rounds: %v; the disk had %d MiB free at least, and the slowest round took %s", *keepRounds, x.counts, least>>20, x.slowest.Round(time.Millisecond))
	if least <= 0 {
		t.Error("the disk was full")
	}
}

// trial is what a trial knows of the images, apart from what Towline knows.
type trial struct {
	*small
	random *rand.Rand
	beside bool // another collector prunes now and then

	mu      sync.Mutex
	size    map[string]int64  // bytes of the image in the registry, by reference
	theirs  map[string]bool   // IDs of images that somebody else brought
	ours    map[string]string // when Towline brought images for certain, by their IDs
	leases  map[string]trialLease
	sets    map[string]string // references by set
	pulls   int               // that have succeeded
	counts  map[string]int
	removed map[string]bool // IDs that the daemon says it has removed in this round
	read    int             // removals in the daemon's log that were read
	begun   time.Time       // the last start of the daemon
	slowest time.Duration   // of the rounds
	before  map[string]bool // IDs of the images that were there at the begin of the round
	pruned  map[string]bool // IDs of images that the other collector has removed in this round
}

// maxTrialLeases leaves images that can be collected.
const maxTrialLeases = 3

// trialLease is a lease of a reference, and of the image that had it then.
type trialLease struct{ ref, id string }

// watchDisk watches the engine's disk until the function it returns is called, which
// returns the fewest bytes that were free.
func (x *trial) watchDisk() (end func() int64) {
	x.Helper()
	resp, err := x.engine.Do(x.Context(), http.MethodGet, "/info", nil, nil)
	if err != nil {
		x.Fatal(err)
	}
	var info struct{ DockerRootDir string }
	err = json.NewDecoder(resp.Body).Decode(&info)
	resp.Body.Close()
	if err != nil {
		x.Fatal(err)
	}
	var least atomic.Int64
	least.Store(1 << 62)
	ctx, cancel := context.WithCancel(x.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			var fs syscall.Statfs_t
			if syscall.Statfs(info.DockerRootDir, &fs) == nil {
				least.Store(min(least.Load(), int64(fs.Bavail)*fs.Bsize))
			}
		}
	})
	return func() int64 {
		cancel()
		watching.Wait()
		return least.Load()
	}
}

// protected returns the images that must stay, by their IDs, and the references that
// must have one, each with the reason.
func (x *trial) protected() (ids, refs map[string]string) {
	x.Helper()
	ids, refs = make(map[string]string), make(map[string]string)
	for _, c := range x.containers() {
		ids[c.ImageID] = "a container has it"
	}
	for id := range x.theirs {
		ids[id] = "somebody else brought it"
	}
	for name, l := range x.leases {
		refs[l.ref] = "the lease " + name
		ids[l.id] = "the lease " + name
	}
	for name, ref := range x.sets {
		refs[ref] = "the set " + name
	}
	for id := range ids {
		if id == "" || !x.has(id) {
			delete(ids, id)
		}
	}
	for ref := range refs {
		if !x.has(ref) {
			delete(refs, ref)
		}
	}
	return ids, refs
}

type trialContainer struct{ ID, ImageID string }

func (x *trial) containers() (all []trialContainer) {
	x.Helper()
	x.ask("/containers/json?all=1", &all)
	return all
}

func (x *trial) ask(path string, answer any) {
	x.Helper()
	resp, err := x.engine.Do(x.Context(), http.MethodGet, path, nil, nil)
	if err != nil {
		x.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		x.Fatal(err)
	}
}

// round does one thing, and compares what was to stay with what has.
func (x *trial) round(n int) {
	x.Helper()
	began := time.Now()
	clear(x.removed)
	clear(x.pruned)
	x.before = make(map[string]bool)
	var images []struct{ ID string }
	x.ask("/images/json?all=1", &images)
	for _, i := range images {
		x.before[i.ID] = true
	}
	ids, refs := x.protected()
	idOf := make(map[string]string)
	for ref := range refs {
		idOf[ref] = x.id(ref)
	}
	var pruning sync.WaitGroup
	if x.beside && x.random.IntN(2) == 0 {
		all, wait := x.random.IntN(4) == 0, time.Duration(x.random.IntN(300))*time.Millisecond
		pruning.Go(func() {
			<-time.After(wait)
			x.prune(all)
		})
	}
	what := x.act()
	pruning.Wait()
	x.counts[what]++
	for id := range x.pruned {
		// A pull may have brought it again meanwhile. An engine that had a part of it still
		// calls it up to date then, so that it is nobody's for certain.
		delete(x.ours, id)
	}
	x.readLog()
	idsAfter, refsAfter := x.stillProtected()
	for id, why := range ids {
		if idsAfter[id] && !x.has(id) && (!x.beside || x.removed[id] || why == "a container has it") {
			x.Errorf("round %d, %s: the image %s has vanished, but %s", n, what, id, why)
		}
	}
	for ref, why := range refs {
		if refsAfter[ref] && !x.has(ref) && (!x.beside || x.removed[idOf[ref]]) {
			x.Errorf("round %d, %s: %s has vanished, but %s has it", n, what, ref, why)
		}
	}
	x.checkOwners(n, what)
	if !x.beside {
		x.checkTold(n, what, began)
	}
	x.slowest = max(x.slowest, time.Since(began))
	if testing.Verbose() {
		x.Logf("round %d: %s in %s", n, what, time.Since(began).Round(time.Millisecond))
	}
}

func (x *trial) id(ref string) string {
	x.Helper()
	id, err := x.engine.ImageID(x.Context(), ref)
	if err != nil {
		x.Fatal(err)
	}
	return id
}

// stillProtected returns the IDs and references that are to stay now, there or not.
func (x *trial) stillProtected() (ids, refs map[string]bool) {
	x.Helper()
	ids, refs = make(map[string]bool), make(map[string]bool)
	for _, c := range x.containers() {
		ids[c.ImageID] = true
	}
	for id := range x.theirs {
		ids[id] = true
	}
	for _, l := range x.leases {
		ids[l.id], refs[l.ref] = true, true
	}
	for _, ref := range x.sets {
		refs[ref] = true
	}
	return ids, refs
}

// removals finds what the daemon has removed, in its log.
var removals = regexp.MustCompile(`msg="image removed".* image="?(sha256:[0-9a-f]{64})`)

// readLog notes what the daemon has removed. It is called before each restart: the log of
// the next one begins anew.
func (x *trial) readLog() {
	all := removals.FindAllStringSubmatch(x.towline.Log(), -1)
	for _, found := range all[x.read:] {
		x.counts["images removed"]++
		x.removed[found[1]] = true
	}
	x.read = len(all)
}

// checkOwners compares who has brought which image, by Towline and by the model.
func (x *trial) checkOwners(n int, what string) {
	x.Helper()
	page, _, err := x.client.Images().List(x.Context(), keep.ImageFilter{Limit: 1000})
	if err != nil {
		x.Fatal(err)
	}
	for _, i := range page {
		if x.ours[i.ID] != "" && i.Owner != keep.OwnerTowline || x.theirs[i.ID] && i.Owner == keep.OwnerTowline {
			x.Errorf("round %d, %s: %v (%s), which came at %v, is of %s; it was pulled %s, and the daemon has begun at %v", n, what, i.Names, i.ID, i.ArrivedAt, i.Owner, x.ours[i.ID], x.begun.UTC())
		}
	}
}

// checkTold checks that what has gone was told: nobody else removes images. What a daemon had
// not told that was killed, the next one does a moment after its start.
func (x *trial) checkTold(n int, what string, since time.Time) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), 10*time.Second)
	defer cancel()
	var untold []string
	err := lab.Poll(ctx, 10*time.Millisecond, func(context.Context) error {
		page, _, err := x.client.Images().History(x.Context(), keep.HistoryFilter{Limit: 1000})
		if err != nil {
			return err
		}
		untold = nil
		for id := range x.before {
			told := slices.ContainsFunc(page, func(e puller.Event) bool {
				return e.Image.ID == id && e.Image.Action == puller.ImageRemoved && e.Time.After(since)
			})
			if !told && !x.has(id) {
				untold = append(untold, id)
			}
		}
		if len(untold) > 0 {
			return errors.New("some are not told")
		}
		return nil
	})
	if err != nil {
		x.Errorf("round %d, %s: nothing tells that %q have gone: %v", n, what, untold, err)
	}
}

// act does something, and returns what.
func (x *trial) act() string {
	x.Helper()
	one := fmt.Sprint("img", x.random.IntN(12))
	switch x.random.IntN(18) {
	case 0, 1, 2, 14, 15, 16, 17:
		x.pullAll(one)
		return "pull"
	case 3:
		x.pullAll(fmt.Sprint("img", x.random.IntN(6)), fmt.Sprint("img", 6+x.random.IntN(6)))
		return "pulls"
	case 4:
		x.run(fmt.Sprint("prog", x.random.IntN(2)))
		return "run"
	case 5:
		if len(x.leases) < maxTrialLeases {
			x.lease(one)
			return "lease"
		}
		fallthrough
	case 6:
		for id := range x.leases {
			if _, err := x.client.Leases().End(x.Context(), id); err != nil {
				x.Error(err)
			}
			delete(x.leases, id)
			break
		}
		return "end of a lease"
	case 7:
		return x.changeSets(one)
	case 8:
		return x.changeContainers()
	case 9:
		x.othersPull()
		return "pull by others"
	case 10, 11:
		if _, err := x.client.Images().Collect(x.Context(), false); err != nil {
			x.Error(err)
		}
		return "collection"
	case 12:
		x.restart(false)
		return "restart"
	}
	x.restart(true)
	return "kill"
}

// renew puts new images into the registry, now and then, and returns their references.
func (x *trial) renew(repos ...string) (refs []string) {
	x.Helper()
	for _, repo := range repos {
		ref := site.registry.Ref(x.repo(repo), "v1")
		if x.size[ref] == 0 || x.random.IntN(3) > 0 {
			mib := 10 + x.random.Int64N(36)
			x.publish(x.repo(repo), mib)
			x.size[ref] = mib << 20
		}
		refs = append(refs, ref)
	}
	return refs
}

// repo returns the name of a repository of this trial alone.
func (x *trial) repo(name string) string {
	if x.beside {
		return "pruned/" + name
	}
	return "alone/" + name
}

// pullAll pulls images at the same time.
func (x *trial) pullAll(repos ...string) {
	x.Helper()
	refs := x.renew(repos...)
	policy := []puller.Policy{puller.PolicyMissing, puller.PolicyNewer, puller.PolicyAlways}[x.random.IntN(3)]
	lease := ""
	if x.random.IntN(4) == 0 && len(x.leases) < maxTrialLeases {
		lease = "1h"
	}
	jobs := make([]puller.Job, len(refs))
	errs := make([]error, len(refs))
	var pulls sync.WaitGroup
	for n, ref := range refs {
		pulls.Go(func() {
			jobs[n], errs[n] = x.client.Pull(x.Context(), client.PullRequest{Image: ref, Policy: policy, Lease: lease})
		})
	}
	pulls.Wait()
	for n, ref := range refs {
		x.ended(ref, jobs[n], errs[n], refs)
	}
}

// ended notes what a job has brought. A failure must be for want of space that was not to be
// had: at the same time, others were pulled.
func (x *trial) ended(ref string, job puller.Job, err error, all []string) {
	x.Helper()
	if err != nil {
		if puller.KindOf(err) != puller.ErrNoSpace || !strings.Contains(err.Error(), "has no room for it") {
			x.Errorf("the pull of %s has failed: %v", ref, err)
			return
		}
		x.counts["refused"]++
		// The lease of a job that fails goes on until its end.
		leases, _, listed := x.client.Leases().List(x.Context(), keep.LeaseFilter{Image: ref})
		if listed != nil {
			x.Error(listed)
		}
		for _, l := range leases {
			if _, known := x.leases[l.ID]; !known {
				x.leases[l.ID] = trialLease{ref: ref}
			}
		}
		var need int64
		factor := int64(25) // tenths that an image takes unpacked, before more was learned
		if x.pulls >= 10 {
			factor = 13
		}
		for _, ref := range x.sets {
			if x.beside && !slices.Contains(all, ref) {
				// What the other collector has removed of a set is pulled again meanwhile.
				all = append(slices.Clip(all), ref)
			}
		}
		for _, one := range all {
			need += x.size[one] * (10 + factor) / 10
		}
		if had := x.disk().Free + x.collectable(all) - 16<<20; had > need+4<<20 {
			x.Errorf("the pull of %v, which needs %d MiB, was refused, but %d MiB were to be had: %v", all, need>>20, had>>20, err)
		}
		return
	}
	x.pulls++
	// Of what is pulled right after a start, it is not known for certain who brought it.
	if r := job.Result; r != nil && r.Source == puller.SourcePulled && !x.theirs[r.ImageID] && !x.before[r.ImageID] {
		if job.StartedAt.Sub(x.begun) > 2*time.Second {
			x.ours[r.ImageID] = times(job)
		} else {
			delete(x.ours, r.ImageID)
		}
	}
	leases, _, err := x.client.Leases().List(x.Context(), keep.LeaseFilter{Job: job.ID})
	if err != nil {
		x.Error(err)
	}
	for _, l := range leases {
		x.leases[l.ID] = trialLease{ref, job.Result.ImageID}
	}
}

// times says when a job went on.
func times(j puller.Job) string { return fmt.Sprintf("from %v to %v", j.StartedAt, j.FinishedAt) }

// collectable returns how many bytes of images nothing protects.
func (x *trial) collectable(but []string) (bytes int64) {
	x.Helper()
	var images []struct {
		ID       string
		RepoTags []string
		Size     int64
	}
	x.ask("/images/json", &images)
	ids, refs := x.protected()
	for _, i := range images {
		protected := ids[i.ID] != "" || x.ours[i.ID] == ""
		for _, ref := range i.RepoTags {
			protected = protected || refs[ref] != "" || slices.Contains(but, ref)
		}
		if !protected {
			bytes += i.Size
		}
	}
	return bytes
}

// run runs a program of an image through Towline.
func (x *trial) run(repo string) {
	x.Helper()
	ref := site.registry.Ref(x.repo(repo), "v1")
	if x.size[ref] == 0 {
		program, err := buildProgram()
		if err != nil {
			x.Fatal(err)
		}
		image, err := lab.BinaryImage(program, "")
		if err == nil {
			_, err = site.registry.Push(x.Context(), x.repo(repo), "v1", image)
		}
		if err != nil {
			x.Fatal(err)
		}
		x.size[ref] = 4 << 20
	}
	job, err := x.client.Run(x.Context(), client.RunRequest{Image: ref, Network: "none", Cmd: []string{"out=here", "exit=0"}})
	if err == nil { // what it holds of the disk is free again when it has ended
		_, err = x.client.Wait(x.Context(), job.ID)
	}
	if err != nil && puller.KindOf(err) != puller.ErrNoSpace {
		x.Errorf("the run of %s: %v", ref, err)
	}
	x.ended(ref, job, err, []string{ref})
}

func (x *trial) lease(repo string) {
	x.Helper()
	ref := site.registry.Ref(x.repo(repo), "v1")
	l, err := x.client.Leases().Add(x.Context(), client.LeaseRequest{Images: []string{ref}, TTL: "1h"})
	if err != nil {
		x.Error(err)
		return
	}
	id := x.id(ref)
	if len(l.ImageIDs) > 0 && l.ImageIDs[0] != id && !x.beside {
		x.Errorf("%s was leased as %s, and is %q", ref, l.ImageIDs, id)
	}
	x.leases[l.ID] = trialLease{ref, id}
}

// changeSets makes a set of an image that is there, or deletes one.
func (x *trial) changeSets(repo string) string {
	x.Helper()
	for name := range x.sets {
		if len(x.sets) < 3 && x.random.IntN(2) == 0 {
			break
		}
		if _, err := x.client.Sets().Delete(x.Context(), name); err != nil {
			x.Error(err)
		}
		delete(x.sets, name)
		return "end of a set"
	}
	ref := site.registry.Ref(x.repo(repo), "v1")
	if !x.has(ref) {
		return "nothing"
	}
	name := "set-" + repo
	if _, err := x.client.Sets().Put(x.Context(), name, client.SetRequest{Images: []client.PullRequest{{Image: ref}}, Policy: puller.PolicyMissing}); err != nil {
		x.Error(err)
		return "set"
	}
	x.sets[name] = ref
	return "set"
}

// changeContainers creates a container of an image that is there, or removes the containers.
func (x *trial) changeContainers() string {
	x.Helper()
	if all := x.containers(); len(all) > 2 {
		for _, c := range all {
			resp, err := x.engine.Do(x.Context(), http.MethodDelete, "/containers/"+c.ID+"?force=1", nil, nil)
			if err != nil {
				x.Fatal(err)
			}
			resp.Body.Close()
		}
		return "end of containers"
	}
	var images []struct{ ID string }
	x.ask("/images/json", &images)
	if len(images) == 0 {
		return "nothing"
	}
	body := strings.NewReader(`{"Image":"` + images[x.random.IntN(len(images))].ID + `","Cmd":["/none"]}`)
	resp, err := x.engine.Do(x.Context(), http.MethodPost, "/containers/create", http.Header{"Content-Type": {"application/json"}}, body)
	if err != nil {
		x.Fatal(err)
	}
	resp.Body.Close()
	return "container" // or the image went meanwhile
}

// othersPull has another client bring a small image, while there is room for it.
func (x *trial) othersPull() {
	x.Helper()
	if x.disk().Free < 80<<20 || len(x.theirs) > 4 && !x.beside {
		return
	}
	ref := x.publish(x.repo("theirs"), 4)
	x.others(ref)
	if id := x.id(ref); id != "" {
		x.theirs[id] = true
	}
}

// restart ends the daemon while it pulls, and starts it again.
func (x *trial) restart(kill bool) {
	x.Helper()
	refs := x.renew(fmt.Sprint("img", x.random.IntN(12)))
	ctx, cancel := context.WithTimeout(x.Context(), time.Minute)
	defer cancel()
	old, before := x.client, x.begun
	type end struct {
		job puller.Job
		err error
	}
	ended := make(chan end, 1)
	job, err := old.Submit(ctx, client.PullRequest{Image: refs[0], Policy: puller.PolicyAlways})
	if err != nil {
		x.Error(err)
		return
	}
	go func() {
		done, err := old.Wait(ctx, job.ID)
		ended <- end{done, err}
	}()
	wait := time.NewTimer(time.Duration(x.random.IntN(700)) * time.Millisecond)
	select {
	case <-wait.C:
	case e := <-ended:
		ended <- e
	}
	x.readLog()
	if kill {
		x.towline.Kill()
	} else if err := x.towline.Stop(); err != nil {
		x.Error(err)
	}
	stopped := time.Now()
	x.start(trialConfig)
	x.read, x.begun = 0, time.Now()
	e := <-ended
	old.Close()
	if e.err != nil {
		x.ended(refs[0], e.job, e.err, refs)
		return
	}
	x.pulls++
	r := e.job.Result
	switch {
	case r.Source != puller.SourcePulled || x.theirs[r.ImageID] || x.before[r.ImageID] && x.has(r.ImageID) && x.ours[r.ImageID] == "":
	case e.job.FinishedAt.Before(stopped) && e.job.StartedAt.Sub(before) > 2*time.Second:
		x.ours[r.ImageID] = times(e.job)
	default:
		delete(x.ours, r.ImageID) // it came anew, and began before the daemon did
	}
}

// prune is what another collector does: only what has lost its name, or all that no
// container has.
func (x *trial) prune(all bool) {
	filters := url.QueryEscape(fmt.Sprintf(`{"dangling":["%t"]}`, !all))
	resp, err := x.engine.Do(x.Context(), http.MethodPost, "/images/prune?filters="+filters, nil, nil)
	if err != nil {
		x.Error(err)
		return
	}
	var answer struct{ ImagesDeleted []struct{ Deleted string } }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	resp.Body.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.Error(err)
	}
	for _, one := range answer.ImagesDeleted { // layers, too
		x.pruned[one.Deleted] = true
	}
	x.counts[map[bool]string{true: "prune of all", false: "prune"}[all]]++
}
