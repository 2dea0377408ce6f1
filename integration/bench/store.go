package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/integration/lab"
	"github.com/towline/towline/puller/bolt"
	"github.com/towline/towline/puller/store"
)

const (
	unended = 1000 // jobs in a store that have not ended
	fewJobs = 1000 // ended jobs that many are held against
	starts  = 5
	rounds  = 100 // of lists
)

// store measures a daemon that keeps many jobs against one that keeps few: its
// start, its memory, its lists.
func (s *site) store(ctx context.Context, jobs int) (err error) {
	engine, err := answering(filepath.Join(s.dir, "engine.sock"))
	if err != nil {
		return err
	}
	defer engine.Close()
	few, many := filepath.Join(s.dir, "few"), filepath.Join(s.dir, "many")
	for dir, n := range map[string]int{few: fewJobs, many: jobs} {
		if err := fill(filepath.Join(dir, "state"), n); err != nil {
			return err
		}
	}
	info, err := os.Stat(filepath.Join(many, "state", "jobs.db"))
	if err != nil {
		return err
	}
	fmt.Printf("a store of %d jobs that have ended and %d that have not: %d MiB\n", jobs, unended, info.Size()>>20)
	if err := s.start(ctx, few, many); err != nil {
		return err
	}
	return s.lists(ctx, few, many)
}

// answering is an engine that says that it is there, and no more: what it is
// asked for an image waits.
func answering(socket string) (io.Closer, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
			io.WriteString(w, "OK")
		case strings.HasSuffix(r.URL.Path, "/json"):
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"message":"No such image"}`)
		case strings.HasSuffix(r.URL.Path, "/images/create"):
			<-r.Context().Done()
		default: // version, info
			io.WriteString(w, `{"Version":"27.0.0","ApiVersion":"1.47","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64","Driver":"overlay2","Name":"bench"}`)
		}
	})}
	go server.Serve(l)
	return server, nil
}

// starting starts a daemon and returns how long it took to be ready.
func (s *site) starting(ctx context.Context, dir string) (*lab.Towline, float64, error) {
	start := time.Now()
	d, err := lab.StartTowline(ctx, s.bin, dir, lab.TowlineOptions{EngineHost: "unix://" + filepath.Join(s.dir, "engine.sock")})
	return d, time.Since(start).Seconds(), err
}

func (s *site) start(ctx context.Context, few, many string) error {
	measure := func(dir string, cold bool) (float64, error) {
		if cold {
			if err := dropCaches(); err != nil {
				return 0, err
			}
		}
		d, took, err := s.starting(ctx, dir)
		if err != nil {
			return 0, err
		}
		return 1000 * took, d.Stop()
	}
	for _, kind := range []struct {
		name string
		cold bool
	}{{"warm", false}, {"after the page cache was dropped", true}} {
		if kind.cold && os.Geteuid() != 0 {
			continue
		}
		var a, b, ratio spread
		for i := range starts + 1 {
			f, err := measure(few, kind.cold)
			if err != nil {
				return err
			}
			m, err := measure(many, kind.cold)
			if err != nil {
				return err
			}
			if i > 0 {
				a.add(f)
				b.add(m)
				ratio.add(m / f)
			}
		}
		fmt.Printf("from exec to ready, %s, %d starts: with %d ended jobs %v ms, with many %v ms, ratio %v\n", kind.name, starts, fewJobs, a, b, ratio)
	}
	return nil
}

// lists measures pages of jobs, with many and with few in the store, in turn.
func (s *site) lists(ctx context.Context, few, many string) (err error) {
	var daemons [2]*lab.Towline
	var callers [2]*caller
	for i, dir := range []string{few, many} {
		if daemons[i], _, err = s.starting(ctx, dir); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, daemons[i].Stop()) }()
		if callers[i], err = dial(socketOf(daemons[i].Host)); err != nil {
			return err
		}
		defer callers[i].conn.Close()
	}
	if err := memory("after the start", daemons); err != nil {
		return err
	}
	deep := deepCursor()
	for _, q := range []struct{ name, query string }{
		{"newest", "limit=100"},
		{"state=failed", "limit=100&state=failed"},
		{"image=…", "limit=100&image=" + keptImage(3)},
		{"from the middle", "limit=100&cursor=" + deep},
		{"image=… from the middle", "limit=100&image=" + keptImage(3) + "&cursor=" + deep},
	} {
		var took [2]spread
		var ratio spread
		for i := range rounds + 1 {
			var t [2]float64
			for k, c := range callers {
				if t[k], err = seconds(func() error { _, err := c.list("/v1/jobs?" + q.query); return err }); err != nil {
					return err
				}
			}
			if i > 0 {
				took[0].add(1000 * t[0])
				took[1].add(1000 * t[1])
				ratio.add(t[1] / t[0])
			}
		}
		fmt.Printf("GET /v1/jobs, 100 jobs, %s, %d rounds: with %d ended jobs %v ms, with many %v ms, ratio %v\n", q.name, rounds, fewJobs, took[0], took[1], ratio)
	}
	if err := memory("after those lists", daemons); err != nil {
		return err
	}
	for _, query := range []string{"limit=1000", "limit=1000&state=failed"} {
		cursor := ""
		for pages := 0; pages < 1000; pages++ {
			page, err := callers[1].list("/v1/jobs?" + query + cursor)
			if err != nil {
				return err
			}
			if page == "" {
				break
			}
			cursor = "&cursor=" + page
		}
	}
	return memory("after every job was listed", daemons)
}

// memory prints what the daemons have in memory: in all, of their own, and of
// files, which the kernel takes back when others want it.
func memory(when string, daemons [2]*lab.Towline) error {
	var all [2]map[string]int
	for i, d := range daemons {
		status, err := os.Open(fmt.Sprintf("/proc/%d/status", d.Pid))
		if err != nil {
			return err
		}
		all[i] = make(map[string]int)
		for lines := bufio.NewScanner(status); lines.Scan(); {
			if f := strings.Fields(lines.Text()); len(f) == 3 && f[2] == "kB" {
				all[i][strings.TrimSuffix(f[0], ":")], _ = strconv.Atoi(f[1])
			}
		}
		status.Close()
	}
	f, m := all[0], all[1]
	fmt.Printf("memory %s: with %d ended jobs %d MiB (%d of its own, %d of files), with many %d MiB (%d of its own, %d of files), ratio %.3g\n",
		when, fewJobs, f["VmRSS"]>>10, f["RssAnon"]>>10, f["RssFile"]>>10,
		m["VmRSS"]>>10, m["RssAnon"]>>10, m["RssFile"]>>10, float64(m["VmRSS"])/float64(f["VmRSS"]))
	return nil
}

// list reads a page and returns the cursor of the next.
func (c *caller) list(target string) (next string, err error) {
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: towline\r\n\r\n", target); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status + ": " + string(body))
	}
	i := strings.LastIndex(string(body), `"next":`)
	if i < 0 {
		return "", nil
	}
	return next, json.Unmarshal(body[i+len(`"next":`):len(body)-2], &next)
}

// fill makes a store of so many jobs that have ended and of some that have not.
func fill(dir string, ended int) error {
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	to, err := bolt.Open(context.Background(), dir, bolt.Options{Log: silent})
	if err != nil {
		return err
	}
	const batch = 1000
	records := make([]store.Record, 0, batch)
	for n := range ended + unended {
		r := waitingRecord(n, ended+unended)
		if n < ended {
			r = endedRecord(r, n)
		}
		if records = append(records, r); len(records) == batch || n == ended+unended-1 {
			if err := to.Save(uint64(10*n), records); err != nil {
				return errors.Join(err, to.Close())
			}
			records = records[:0]
		}
	}
	return to.Close()
}
