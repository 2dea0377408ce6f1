package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/buckets"
	"github.com/towline/towline/puller/fleet/creds"
	"github.com/towline/towline/puller/fleet/link"
)

func TestJoin(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	main := e.local()
	if l := main.is(fleet.LinkUp, ""); !l.Controller || l.Server != "this daemon" || l.Fleet != "ci" || l.Host != "main" || l.Since.IsZero() {
		t.Errorf("the daemon's own link is %+v", l)
	}
	a := invited(t, e.invite("a"), "machine-a")
	if l := a.is(fleet.LinkUp, ""); l.Controller || !strings.Contains(l.Server, e.Address().String()) {
		t.Errorf("the link of a host is %+v", l)
	}
	got, err := says(t, main.Conn(), "ci", "a")
	if want := (fleet.Identity{Format: fleet.Format, Session: a.Session(), Machine: "machine-a", Name: "name of machine-a"}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("the controllers know %+v, %v", got, err)
	}
	t.Run("beats", func(t *testing.T) {
		beats, err := main.Conn().SubscribeSync(fleet.Subjects{Fleet: "ci"}.Beat("a"))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m, err := beats.NextMsg(limit)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := fleet.ParseBeat(m.Data); err != nil || b.Session != a.Session() {
				t.Errorf("a beat is %+v, %v", b, err)
			}
		}
	})
	t.Run("not permitted", func(t *testing.T) {
		_, err := a.Request(t.Context(), "$JS.API.INFO", nil, nil)
		if !errors.Is(err, link.ErrNotPermitted) || !strings.Contains(err.Error(), "$JS.API.INFO") {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("leaves", func(t *testing.T) {
		a.stop()
		if got, err := says(t, main.Conn(), "ci", "a"); err != nil || got.Session != "" {
			t.Errorf("the controllers know %+v, %v", got, err)
		}
	})
}

// What a host says of itself is said again when it changes.
func TestIdentity(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	main := e.local()
	main.is(fleet.LinkUp, "")
	platforms := make(chan string, 1)
	platform := ""
	a := join(t, link.Options{Fleet: "ci", Host: "a", Creds: e.invite("a"), Identity: func() fleet.Identity {
		select {
		case platform = <-platforms:
		default:
		}
		return fleet.Identity{Machine: "machine-a", Platform: platform}
	}})
	a.is(fleet.LinkUp, "")
	js, err := jetstream.New(main.Conn())
	if err != nil {
		t.Fatal(err)
	}
	b, err := js.KeyValue(t.Context(), fleet.Subjects{Fleet: "ci"}.Reports())
	if err != nil {
		t.Fatal(err)
	}
	w, err := b.Watch(t.Context(), "a", jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	platforms <- "linux/arm64"
	select {
	case u := <-w.Updates():
		if got, err := fleet.ParseIdentity(u.Value()); err != nil || got.Platform != "linux/arm64" || got.Session != a.Session() {
			t.Errorf("the host says %+v, %v", got, err)
		}
	case <-time.After(limit):
		t.Error("the host says nothing new")
	}
}

// Open waits for nothing, also where a server takes connections and says nothing.
func TestOpenWaitsForNothing(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	began := time.Now()
	h := join(t, link.Options{
		Fleet: "ci", Host: "a", Identity: machine("a"),
		Creds: creds.Creds{URLs: []string{"nats://" + silent.Addr().String(), "nats://does-not-exist.invalid:4222"}},
	})
	if took := time.Since(began); took > time.Second {
		t.Errorf("it waited for %v", took)
	}
	if l := h.Link.Link(); l.State != fleet.LinkAway {
		t.Errorf("the link is %+v", l)
	}
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	c := e.invite("a")
	main, a := e.local(), invited(t, c, "machine-a")
	main.is(fleet.LinkUp, "")
	a.is(fleet.LinkUp, "")
	e.stop()
	a.is(fleet.LinkAway, "")
	main.is(fleet.LinkAway, "")
	main.stop() // a daemon ends with its server
	if err := a.Conn().Publish("x", nil); err == nil {
		t.Error("what is published while NATS is away is kept for later")
	}
	e.start()
	main = e.local()
	main.is(fleet.LinkUp, "")
	a.is(fleet.LinkUp, "")
	if got, err := says(t, main.Conn(), "ci", "a"); err != nil || got.Session != a.Session() {
		t.Errorf("the controllers know %+v, %v", got, err)
	}
}

// A partition is found, and ends by itself.
func TestPartition(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	e.local().is(fleet.LinkUp, "")
	p := newProxy(t, e.Address().String())
	c := e.invite("a")
	c.URLs = []string{"tls://" + p.Addr().String()}
	a := invited(t, c, "machine-a")
	a.is(fleet.LinkUp, "")
	p.hold(true)
	if l := a.is(fleet.LinkAway, ""); l.Reason == "" {
		t.Error("it does not say why")
	}
	p.hold(false)
	a.is(fleet.LinkUp, "")
}

func TestClone(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	main := e.local()
	main.is(fleet.LinkUp, "")
	t.Run("another machine", func(t *testing.T) {
		t.Parallel()
		c := e.invite("a")
		first := invited(t, c, "machine-a")
		first.is(fleet.LinkUp, "")
		second := invited(t, c, "machine-b")
		first.stays(fleet.LinkUp, func() { second.is(fleet.LinkRefused, `"name of machine-a"`) })
		first.stop()
		second.is(fleet.LinkUp, "")
	})
	t.Run("the same machine", func(t *testing.T) { // a copy of a virtual machine, with all of its disk
		t.Parallel()
		c := e.invite("b")
		first := invited(t, c, "machine-a")
		first.is(fleet.LinkUp, "")
		second := invited(t, c, "machine-a")
		first.stays(fleet.LinkUp, func() { second.is(fleet.LinkRefused, `"name of machine-a"`) })
	})
	t.Run("a restart", func(t *testing.T) {
		t.Parallel()
		c := e.invite("c")
		first := invited(t, c, "machine-a")
		first.is(fleet.LinkUp, "")
		first.Cut()
		second := invited(t, c, "machine-a")
		second.is(fleet.LinkUp, "")
		if got, err := says(t, main.Conn(), "ci", "c"); err != nil || got.Session != second.Session() {
			t.Errorf("the controllers know %+v, %v", got, err)
		}
	})
	t.Run("a machine that died", func(t *testing.T) {
		t.Parallel()
		c := e.invite("d")
		first := invited(t, c, "machine-a")
		first.is(fleet.LinkUp, "")
		first.Cut()
		second := invited(t, c, "machine-b")
		second.is(fleet.LinkUp, "")
	})
	t.Run("a split", func(t *testing.T) { // one took over while the other one could not be heard
		t.Parallel()
		p := newProxy(t, e.Address().String())
		c := e.invite("e")
		far := c
		far.URLs = []string{"tls://" + p.Addr().String()}
		first := invited(t, far, "machine-a")
		first.is(fleet.LinkUp, "")
		p.hold(true)
		second := invited(t, c, "machine-b")
		second.is(fleet.LinkUp, "")
		p.hold(false)
		second.stays(fleet.LinkUp, func() { first.is(fleet.LinkRefused, `"name of machine-b"`) })
	})
	t.Run("forged beats", func(t *testing.T) {
		t.Parallel()
		// JetStream's answers may be sent to another host's beats by any host: they stand
		// in the hosts' account.
		a, bad := invited(t, e.invite("f"), "machine-f"), invited(t, e.invite("bad"), "machine-bad")
		a.is(fleet.LinkUp, "")
		bad.is(fleet.LinkUp, "")
		names := fleet.Subjects{Fleet: "ci"}
		forged := fleet.Encode(fleet.Beat{Session: "forged", Ask: true})
		if _, err := bad.Request(t.Context(), fleet.Key(names.Reports(), "bad.web"), nil, forged); err != nil {
			t.Fatal(err)
		}
		beats, err := main.Conn().SubscribeSync(names.Beat("f"))
		if err != nil {
			t.Fatal(err)
		}
		a.stays(fleet.LinkUp, func() {
			for range 100 {
				if err := bad.Conn().PublishRequest(fleet.DirectGet(names.Reports(), "bad"), names.Beat("f"), nil); err != nil {
					t.Fatal(err)
				}
			}
			for range 4 {
				if _, err := beats.NextMsg(limit); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	e := newEmbedded(t)
	e.local().is(fleet.LinkUp, "")
	t.Run("withdrawn", func(t *testing.T) {
		a := invited(t, e.invite("a"), "machine-a")
		a.is(fleet.LinkUp, "")
		if err := e.Withdraw(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		a.is(fleet.LinkRefused, "NATS refuses the credentials of fleet.creds")
	})
	t.Run("another authority", func(t *testing.T) {
		other := newEmbedded(t)
		c := e.invite("b")
		c.CA = other.invite("b").CA
		invited(t, c, "machine-b").is(fleet.LinkRefused, "not of the authority in fleet.creds")
	})
	t.Run("another name", func(t *testing.T) {
		c := e.invite("c")
		through := newProxy(t, e.Address().String())
		_, port, err := net.SplitHostPort(through.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.URLs = []string{"tls://0.0.0.0:" + port} // it reaches this machine, and is no name of it
		invited(t, c, "machine-c").is(fleet.LinkRefused, "for other names than fleet.url has")
	})
	t.Run("another host", func(t *testing.T) {
		c := e.invite("d")
		h := join(t, link.Options{Fleet: "ci", Host: "other", Creds: c, Identity: machine("d")})
		h.is(fleet.LinkRefused, "compare fleet.name and fleet.creds")
	})
	t.Run("another fleet", func(t *testing.T) {
		c := e.invite("f")
		h := join(t, link.Options{Fleet: "other", Host: "f", Creds: c, Identity: machine("f")})
		h.is(fleet.LinkRefused, "of the fleet other")
	})
}

// A cluster of three keeps each bucket three times, and loses a node without a loss.
func TestCluster(t *testing.T) {
	t.Parallel()
	const limit = 90 * time.Second // a busy machine needs several elections
	n := newNodes(t, 3, "")
	c := creds.Creds{URLs: n.urls()}
	// One bucket was made while the NATS had one server.
	first, err := nats.Connect(n.urls()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	early, err := jetstream.New(first)
	if err != nil {
		t.Fatal(err)
	}
	sparse := buckets.All(fleet.Subjects{Fleet: "ci"})[0]
	sparse.Replicas = 1
	ready, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	for { // until the cluster has a leader; before, nobody answers
		try, cancel := context.WithTimeout(ready, time.Second)
		_, err := early.CreateStream(try, sparse)
		cancel()
		if err == nil {
			break
		}
		if ready.Err() != nil {
			t.Fatal(err)
		}
	}
	a := join(t, link.Options{Fleet: "ci", Host: "a", Creds: c, Identity: machine("machine-a")})
	if l := a.isWithin(limit, fleet.LinkUp, ""); !l.Controller {
		t.Errorf("the link is %+v", l)
	}
	names := fleet.Subjects{Fleet: "ci"}
	js, err := jetstream.New(a.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []string{names.Sets(), names.Desired(), names.Reports(), names.Lead(), names.Invited()} {
		for current := 0; current < 2; { // a node that is killed before has what the others have not
			try, cancel := context.WithTimeout(ready, time.Second)
			s, err := js.Stream(try, fleet.Stream(b))
			cancel()
			if current = 0; err == nil && s.CachedInfo().Cluster != nil && s.CachedInfo().Config.Replicas == 3 {
				for _, r := range s.CachedInfo().Cluster.Replicas {
					if r.Current {
						current++
					}
				}
			}
			if current < 2 && ready.Err() != nil {
				t.Fatalf("%s is not kept three times: %v", b, err)
			}
		}
	}
	sets, err := js.KeyValue(t.Context(), names.Sets())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sets.Put(t.Context(), "web", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	server := a.Conn().ConnectedServerName()
	for i, s := range n.all {
		if s.Name() == server {
			n.kill(i)
			break
		}
	}
	for again := false; !again; { // it may be up before it sees that the node is gone
		changed := a.Changed()
		if again = a.Conn().IsConnected() && a.Conn().ConnectedServerName() != server && a.Link.Link().State == fleet.LinkUp; again {
			break
		}
		select {
		case <-changed:
		case <-time.After(limit):
			t.Fatalf("the link is %+v", a.Link.Link())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		e, err := sets.Get(ctx, "web")
		if err == nil && string(e.Value()) == "kept" {
			break
		}
		if ctx.Err() != nil { // an election may go on
			t.Fatal(e, err)
		}
	}
}

// Fleets with different names on one NATS do not see each other.
func TestFleetsApart(t *testing.T) {
	t.Parallel()
	n := newNodes(t, 1, "")
	c := creds.Creds{URLs: n.urls()}
	var all []*host
	for _, name := range []string{"ci", "render"} {
		h := join(t, link.Options{Fleet: name, Host: "a", Creds: c, Identity: machine("machine of " + name)})
		h.is(fleet.LinkUp, "")
		all = append(all, h)
	}
	for i, name := range []string{"ci", "render"} {
		got, err := says(t, all[i].Conn(), name, "a")
		if err != nil || got.Session != all[i].Session() || got.Machine != "machine of "+name {
			t.Errorf("%s knows %+v, %v", name, got, err)
		}
	}
}

// A host of one fleet tries all that another one on the same NATS has. Both have hosts and
// sets of the same names.
func TestHostileFleet(t *testing.T) {
	t.Parallel()
	_, all := newOperated(t, "ci", "render")
	theirs := fleet.Subjects{Fleet: "render"}
	var controllers []*host
	for _, name := range []string{"ci", "render"} {
		c := join(t, link.Options{Fleet: name, Host: "main", Creds: all[name]["main"], Identity: machine("main of " + name)})
		c.is(fleet.LinkUp, "")
		controllers = append(controllers, c)
		join(t, link.Options{Fleet: name, Host: "build-7", Creds: all[name]["build-7"], Identity: machine("host of " + name)}).is(fleet.LinkUp, "")
	}
	js, err := jetstream.New(controllers[1].Conn())
	if err != nil {
		t.Fatal(err)
	}
	state := func() map[string]string {
		t.Helper()
		all := make(map[string]string)
		for _, b := range []string{theirs.Sets(), theirs.Desired(), theirs.Reports(), theirs.Lead(), theirs.Invited()} {
			kv, err := js.KeyValue(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := kv.ListKeys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for key := range keys.Keys() {
				e, err := kv.Get(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				all[b+" "+key] = string(e.Value())
			}
		}
		return all
	}
	for bucket, key := range map[string]string{theirs.Sets(): "web", theirs.Desired(): "build-7", theirs.Invited(): "build-7"} {
		kv, err := js.KeyValue(t.Context(), bucket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), key, []byte("theirs")); err != nil {
			t.Fatal(err)
		}
	}
	before := state()
	heard, err := controllers[1].Conn().SubscribeSync("towline.>")
	if err != nil {
		t.Fatal(err)
	}
	for who, c := range all["ci"] {
		hostile := connect(t, c, "build-7")
		var got []*nats.Subscription
		for _, subject := range append(theirs.HostSubscribe("build-7"), "$KV."+theirs.Reports()+".>", theirs.Beats(), theirs.Asks(), "_INBOX.>") {
			sub, err := hostile.SubscribeSync(subject)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, sub)
		}
		publish := append(theirs.HostPublish("build-7"), fleet.Key(theirs.Desired(), "build-7"), fleet.Key(theirs.Sets(), "web"), fleet.Key(theirs.Lead(), fleet.LeadKey), fleet.Key(theirs.Invited(), "build-7"))
		for _, b := range []string{theirs.Sets(), theirs.Desired(), theirs.Reports()} {
			for _, call := range []string{"STREAM.PURGE.", "STREAM.DELETE.", "STREAM.MSG.GET.", "STREAM.INFO.", "DIRECT.GET."} {
				publish = append(publish, "$JS.API."+call+fleet.Stream(b))
			}
		}
		inbox := fleet.InboxPrefix("build-7") + ".x"
		answers, err := hostile.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		for _, subject := range publish {
			subject = strings.TrimSuffix(subject, ".*") // a key of theirs
			if err := hostile.PublishRequest(subject, inbox, []byte("{}")); err != nil {
				t.Fatal(err)
			}
			// Their subject as the one of an answer.
			if err := hostile.PublishRequest(fleet.DirectGet(fleet.Subjects{Fleet: "ci"}.Reports(), "build-7"), subject, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := hostile.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, sub := range append(got, answers) {
			for n, _, _ := sub.Pending(); n > 0; n, _, _ = sub.Pending() {
				m, err := sub.NextMsg(limit)
				if errors.Is(err, nats.ErrNoResponders) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(m.Data), "theirs") || strings.Contains(string(m.Data), "render") {
					t.Errorf("%s of ci reads of render: %s %q", who, m.Subject, m.Data)
				}
			}
		}
	}
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Errorf("a fleet has changed another one:\n%s", diff)
	}
	if err := controllers[1].Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	for n, _, _ := heard.Pending(); n > 0; n, _, _ = heard.Pending() {
		m, err := heard.NextMsg(limit)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) == "{}" || !strings.HasPrefix(m.Subject, "towline.render.") {
			t.Errorf("the controller of render hears %s %q", m.Subject, m.Data)
		}
	}
}

// connect connects with credentials, as NATS itself does it.
func connect(t *testing.T, c creds.Creds, id string) *nats.Conn {
	t.Helper()
	pair, err := nkeys.FromSeed([]byte(c.Seed))
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(c.URLs[0], nats.Nkey(public, pair.Sign), nats.CustomInboxPrefix(fleet.InboxPrefix(id)), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// A host without the rights of a controller waits until one has made the buckets.
func TestNoController(t *testing.T) {
	t.Parallel()
	n, all := newOperated(t, "ci")
	c := all["ci"]
	host := join(t, link.Options{Fleet: "ci", Host: "build-7", Creds: c["build-7"], Identity: machine("machine-7")})
	host.is(fleet.LinkAway, "no controller has made its buckets yet")
	controller := join(t, link.Options{Fleet: "ci", Host: "main", Creds: c["main"], Identity: machine("machine-main")})
	if l := controller.is(fleet.LinkUp, ""); !l.Controller {
		t.Errorf("the controller's link is %+v", l)
	}
	if l := host.is(fleet.LinkUp, ""); l.Controller {
		t.Errorf("the host's link is %+v", l)
	}
	t.Run("restart", func(t *testing.T) {
		n.kill(0)
		host.is(fleet.LinkAway, "")
		n.start(0)
		controller.is(fleet.LinkUp, "")
		host.is(fleet.LinkUp, "")
	})
	t.Run("wrong name", func(t *testing.T) {
		h := join(t, link.Options{Fleet: "another", Host: "build-7", Creds: c["build-7"], Identity: machine("machine-7")})
		h.is(fleet.LinkRefused, "compare fleet.name and fleet.creds")
	})
}

// newOperated returns a NATS as the README tells its operator to configure it, with accounts
// for each of some fleets, and credentials of the hosts there by fleet and host.
func newOperated(t *testing.T, fleets ...string) (*nodes, map[string]map[string]creds.Creds) {
	t.Helper()
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, accounts, ok := strings.Cut(string(page), "```nats\naccounts {\n")
	accounts, rest, end := strings.Cut(accounts, "\n}\n")
	if !ok || !end || !strings.HasPrefix(rest, "jetstream: enabled\n```") {
		t.Fatal("the README has no configuration of NATS")
	}
	config := ""
	all := make(map[string]map[string]creds.Creds)
	for _, f := range fleets {
		one := strings.NewReplacer("towline_ci_", "towline_"+f+"_", "towline.ci.", "towline."+f+".", "account: fleet", "account: fleet_"+f,
			"  fleet {", "  fleet_"+f+" {", "  hosts {", "  hosts_"+f+" {").Replace(accounts)
		all[f] = make(map[string]creds.Creds)
		for _, name := range []string{"main", "build-7"} {
			pair, err := nkeys.CreateUser()
			if err != nil {
				t.Fatal(err)
			}
			public, err := pair.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			seed, err := pair.Seed()
			if err != nil {
				t.Fatal(err)
			}
			all[f][name] = creds.Creds{Seed: string(seed)}
			placeholder := fmt.Sprintf("<the public key of %s>", name)
			if !strings.Contains(one, placeholder) {
				t.Fatalf("the README has no %s", placeholder)
			}
			one = strings.ReplaceAll(one, placeholder, public)
		}
		config += one + "\n"
	}
	n := newNodes(t, 1, "accounts {\n"+config+"}\njetstream: enabled\n")
	for _, hosts := range all {
		for name, c := range hosts {
			c.URLs = n.urls()
			hosts[name] = c
		}
	}
	return n, all
}

// A NATS with operators gives a host a creds file.
func TestOperators(t *testing.T) {
	t.Parallel()
	key := func(make func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		t.Helper()
		pair, err := make()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return pair, public
	}
	signed := func(claims jwt.Claims, by nkeys.KeyPair) string {
		t.Helper()
		token, err := claims.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	operator, operatorKey := key(nkeys.CreateOperator)
	account, accountKey := key(nkeys.CreateAccount)
	_, systemKey := key(nkeys.CreateAccount)
	claims := jwt.NewAccountClaims(accountKey)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	config := fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {%s: %s, %s: %s}\n",
		signed(jwt.NewOperatorClaims(operatorKey), operator), systemKey, accountKey, signed(claims, operator), systemKey, signed(jwt.NewAccountClaims(systemKey), operator))
	n := newNodes(t, 1, config)
	file := func(expires time.Time) creds.Creds {
		t.Helper()
		user, public := key(nkeys.CreateUser)
		claims := jwt.NewUserClaims(public)
		if !expires.IsZero() {
			claims.Expires = expires.Unix()
		}
		seed, err := user.Seed()
		if err != nil {
			t.Fatal(err)
		}
		content, err := jwt.FormatUserConfig(signed(claims, account), seed)
		if err != nil {
			t.Fatal(err)
		}
		c, err := creds.Parse(content)
		if err != nil {
			t.Fatal(err)
		}
		c.URLs = n.urls()
		return c
	}
	good := join(t, link.Options{Fleet: "ci", Host: "a", Creds: file(time.Time{}), Identity: machine("machine-a")})
	if l := good.is(fleet.LinkUp, ""); !l.Controller {
		t.Errorf("the link is %+v", l)
	}
	old := join(t, link.Options{Fleet: "ci", Host: "b", Creds: file(time.Now().Add(-time.Hour)), Identity: machine("machine-b")})
	old.is(fleet.LinkRefused, "expired")
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for says, c := range map[string]creds.Creds{
		"ca: ":    {URLs: []string{"tls://127.0.0.1:1"}, CA: "garbage"},
		"illegal": {URLs: []string{"tls://127.0.0.1:1"}, Seed: "garbage"},
	} {
		_, err := link.Open(link.Options{Fleet: "ci", Host: "a", Creds: c, Identity: machine("a"), Log: logger(t), Metrics: prometheus.NewRegistry()})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v, want %q", err, says)
		}
	}
}
