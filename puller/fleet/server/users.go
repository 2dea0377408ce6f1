package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/store"
)

// Limits of one host. One that goes beyond those of messages is shut out for a while.
const (
	maxHostConnections = 4 // a daemon has one, and another one while it is started again
	messagesPerSecond  = 100
	messagesAtOnce     = 5000
	bytesPerSecond     = 2 << 20
	bytesAtOnce        = 32 << 20
	shutOutFor         = time.Minute
)

// users are who may connect, and with what rights.
type users struct {
	records  store.Records
	subjects fleet.Subjects
	own      string // the public key of the daemon itself
	log      logrus.FieldLogger
	refused  *prometheus.CounterVec

	saving sync.Mutex // held for a change of the records, before mu
	mu     sync.Mutex
	hosts  map[string]*host
	byKey  map[string]*host
	nats   *server.Server // nil while none runs
	isOpen bool           // hosts are let in, not only the daemon itself
}

// host is one that was invited.
type host struct {
	id          string
	invitation  invitation
	connections map[uint64]traffic // those that are open, by ID
	messages    *rate.Limiter
	bytes       *rate.Limiter
	shutUntil   time.Time
}

// traffic is what came on a connection.
type traffic struct{ messages, bytes int64 }

func openUsers(records store.Records, subjects fleet.Subjects, own string, log logrus.FieldLogger) (*users, error) {
	u := &users{
		records: records, subjects: subjects, own: own, log: log, hosts: make(map[string]*host), byKey: make(map[string]*host),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "towline_fleet_connections_refused_total", Help: "Connections that the embedded server has refused or closed, by reason.",
		}, []string{"reason"}),
	}
	all, err := records.Load(recordKind)
	if err != nil {
		return nil, err
	}
	for id, value := range all {
		var i invitation
		if err := json.Unmarshal(value, &i); err != nil {
			return nil, fmt.Errorf("the invitation of the host %s to the fleet: %w", id, err)
		}
		u.put(id, i)
	}
	return u, nil
}

// put makes an invitation known. It returns the connections of the one before it.
func (u *users) put(id string, i invitation) []uint64 {
	was := u.drop(id)
	h := &host{
		id: id, invitation: i, connections: make(map[uint64]traffic),
		messages: rate.NewLimiter(messagesPerSecond, messagesAtOnce), bytes: rate.NewLimiter(bytesPerSecond, bytesAtOnce),
	}
	u.hosts[id], u.byKey[i.Key] = h, h
	return was
}

// drop forgets an invitation. It returns the host's connections.
func (u *users) drop(id string) (open []uint64) {
	h := u.hosts[id]
	if h == nil {
		return nil
	}
	delete(u.hosts, id)
	delete(u.byKey, h.invitation.Key)
	for c := range h.connections {
		open = append(open, c)
	}
	return open
}

func (u *users) get(id string) (invitation, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if h := u.hosts[id]; h != nil {
		return h.invitation, true
	}
	return invitation{}, false
}

func (u *users) all() map[string]invitation {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := make(map[string]invitation, len(u.hosts))
	for id, h := range u.hosts {
		all[id] = h.invitation
	}
	return all
}

// save keeps an invitation, and ends the connections of the one before it. saving is held.
func (u *users) save(id string, i invitation) error {
	value, err := json.Marshal(i)
	if err != nil {
		return err
	}
	if err := u.records.Save(recordKind, map[string][]byte{id: value}); err != nil {
		return err
	}
	u.mu.Lock()
	was, nats := u.put(id, i), u.nats
	u.mu.Unlock()
	disconnect(nats, was)
	return nil
}

// remove forgets an invitation, and ends the host's connections. saving is held.
func (u *users) remove(id string) error {
	if err := u.records.Delete(recordKind, []string{id}); err != nil {
		return err
	}
	u.mu.Lock()
	was, nats := u.drop(id), u.nats
	u.mu.Unlock()
	disconnect(nats, was)
	return nil
}

// disconnect ends connections. One that has ended is no error.
func disconnect(nats *server.Server, connections []uint64) {
	for _, c := range connections {
		_ = nats.DisconnectClientByID(c)
	}
}

// attach has the server that is about to run ask for users, or none.
func (u *users) attach(nats *server.Server) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.nats, u.isOpen = nats, false
	for _, h := range u.hosts {
		clear(h.connections)
	}
}

// open lets hosts in.
func (u *users) open() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.isOpen = true
}

// Check implements server.Authentication: it lets in who has the key of an invitation.
func (u *users) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	if c.Kind() != server.CLIENT || !isSigned(o.Nkey, o.Sig, c.GetNonce()) {
		return u.refuse("unknown")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.nats == nil {
		return false
	}
	if o.Nkey == u.own {
		return u.register(c, "", accountFleet, nil)
	}
	h := u.byKey[o.Nkey]
	switch {
	case h == nil:
		return u.refuse("unknown")
	case !u.isOpen:
		return u.refuse("starting")
	case time.Now().Before(h.shutUntil):
		return u.refuse("shut_out")
	case len(h.connections) >= maxHostConnections:
		return u.refuse("too_many")
	}
	account, rights := accountHosts, &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: u.subjects.HostPublish(h.id)},
		Subscribe: &server.SubjectPermission{Allow: u.subjects.HostSubscribe(h.id)},
	}
	if h.invitation.Controller {
		account, rights = accountFleet, nil
	}
	if !u.register(c, h.id, account, rights) {
		return false
	}
	h.connections[c.GetID()] = traffic{}
	return true
}

func (u *users) refuse(reason string) bool {
	u.refused.WithLabelValues(reason).Inc()
	return false
}

// register gives a connection its account and its rights: all of the account without any.
func (u *users) register(c server.ClientAuthentication, name, account string, rights *server.Permissions) bool {
	a, err := u.nats.LookupAccount(account)
	if err != nil {
		u.log.WithError(err).Error("the fleet's server has no such account")
		return false
	}
	c.RegisterUser(&server.User{Username: name, Account: a, Permissions: rights})
	return true
}

// isSigned reports whether a key has signed what the server has asked it to.
func isSigned(key, signature string, nonce []byte) bool {
	if key == "" || len(nonce) == 0 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		return false
	}
	pair, err := nkeys.FromPublicKey(key)
	return err == nil && pair.Verify(nonce, raw) == nil
}

// count notes what has come on the connections that are open, and shuts out hosts that send
// too much. It returns the connections that are to end.
func (u *users) count(open map[uint64]traffic, now time.Time) (end []uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, h := range u.hosts {
		var messages, bytes int64
		for id, was := range h.connections {
			is, ok := open[id]
			if !ok {
				delete(h.connections, id)
				continue
			}
			messages, bytes = messages+is.messages-was.messages, bytes+is.bytes-was.bytes
			h.connections[id] = is
		}
		if h.invitation.Controller || allow(h.messages, now, messages) && allow(h.bytes, now, bytes) {
			continue
		}
		h.shutUntil = now.Add(shutOutFor)
		u.refuse("flood")
		u.log.WithFields(logrus.Fields{"host": h.id, "messages": messages, "bytes": bytes}).Warnf("the host sends too much; it is shut out of the fleet for %v", shutOutFor)
		for id := range maps.Keys(h.connections) {
			end = append(end, id)
		}
	}
	return end
}

// allow takes n from a limiter. More than it ever has is not allowed.
func allow(l *rate.Limiter, now time.Time, n int64) bool {
	return n <= int64(l.Burst()) && l.AllowN(now, int(n))
}
