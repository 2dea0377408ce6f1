package control

import (
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
)

// listener takes up what NATS has and what hosts say, and answers them.
type listener struct {
	o     Options
	names fleet.Subjects
	state *state

	mu     sync.Mutex           // guards what follows
	logged map[string]time.Time // when a fault of a host was logged, by host
}

// unreadable is the format of a record that can't be read.
const unreadable = -1

// gone reports whether an entry says that its key is not there any more.
func gone(e jetstream.KeyValueEntry) bool { return e.Operation() != jetstream.KeyValuePut }

// set takes up a set as it is kept.
func (l *listener) set(e jetstream.KeyValueEntry) {
	name := e.Key()
	var s *known.Set
	if !gone(e) {
		var err error
		if s, err = known.ReadSet(l.o.Fleet, name, e.Value()); err != nil {
			l.o.Log.WithField("set", puller.Clip(name)).WithError(err).Error("a set of the fleet can't be read; hosts keep what they have of it; put it again")
			l.state.mu.Lock()
			defer l.state.mu.Unlock()
			l.state.known.Unread[name] = true
			return
		}
		s.Revision = e.Revision()
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.known.PutSet(name, s, e.Revision())
	l.state.nudge()
}

// invited takes up an invitation.
func (l *listener) invited(e jetstream.KeyValueEntry) {
	var i *fleet.Invited
	if !gone(e) {
		i = new(fleet.Invited)
		if err := json.Unmarshal(e.Value(), i); err != nil {
			l.fault(e.Key(), "invitation", err)
			return
		}
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	if i == nil && l.state.known.Hosts[e.Key()] == nil {
		return // it was removed
	}
	if h := l.state.known.Host(e.Key()); h != nil {
		h.Invited = i
		h.Touched = l.state.known.Touch()
		l.state.nudge()
	}
}

// desired takes up what a host is to have.
func (l *listener) desired(e jetstream.KeyValueEntry) {
	var d *fleet.Desired
	if !gone(e) {
		read, err := fleet.ParseDesired(e.Value())
		if err != nil {
			read = fleet.Desired{Format: unreadable}
			var format fleet.ErrFormat
			if errors.As(err, &format) {
				read.Format = format.Format // a later controller has written it, and it stays
			}
			l.o.Log.WithField("host", puller.Clip(e.Key())).WithError(err).Error("what a host is to have can't be read; what a later Towline wrote stays, and anything else is written again")
		}
		d = &read
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	if d == nil && l.state.known.Hosts[e.Key()] == nil {
		return // it was removed
	}
	if h := l.state.known.Host(e.Key()); h != nil && e.Revision() > h.Revision {
		h.Desired, h.Revision = d, e.Revision()
		h.Touched = l.state.known.Touch()
		l.state.nudge()
	}
}

// report takes up what a host says.
func (l *listener) report(e jetstream.KeyValueEntry) {
	id, set := hostOf(e.Key())
	if set == "" {
		l.identity(id, e)
		return
	}
	var r *fleet.Report
	if !gone(e) {
		read, err := fleet.ParseReport(e.Value())
		if err == nil {
			err = fleet.CheckSetName(set)
		}
		if err != nil {
			l.fault(id, "report", err)
			l.state.mu.Lock()
			defer l.state.mu.Unlock()
			l.state.known.HearUnread(id, set, err)
			l.state.nudge()
			return
		}
		r = &read
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.known.HearReport(id, set, r)
	l.state.nudge()
}

func (l *listener) identity(id string, e jetstream.KeyValueEntry) {
	var i *fleet.Identity
	fault := ""
	if !gone(e) {
		read, err := fleet.ParseIdentity(e.Value())
		if err == nil {
			err = fleet.CheckHost(id)
		}
		if err != nil {
			fault = "what it says of itself can't be read: " + err.Error()
			l.fault(id, "identity", err)
		} else {
			i = &read
		}
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	l.state.known.HearIdentity(id, i, fault, l.o.liveFor())
	l.state.nudge()
}

// beat takes up a beat.
func (l *listener) beat(m *nats.Msg) {
	id := m.Subject[len(l.names.Beats())-1:]
	b, err := fleet.ParseBeat(m.Data)
	if err != nil {
		l.fault(id, "beat", err)
		return
	}
	l.state.mu.Lock()
	news, clone := l.state.known.HearBeat(id, b)
	l.state.mu.Unlock()
	if news {
		l.state.nudge()
	}
	if clone {
		l.o.Log.WithFields(logrus.Fields{"host": id, "machine": b.Name, "session": puller.Clip(b.Session)}).Error("another daemon has the ID of a host of the fleet; it is refused; give it credentials or a state_dir of its own")
	}
}

// answer tells a host with whom it shares a set.
func (l *listener) answer(m *nats.Msg) {
	if m.Reply == "" {
		return
	}
	id := m.Subject[len(l.names.Asks())-1:]
	data, err := l.state.group(id, m.Data)
	if err != nil {
		data = fleet.Encode(fleet.Answer{Error: err.Error()})
	}
	m.Respond(data)
}

// fault logs what is wrong with what a host wrote, once a minute for each host.
func (l *listener) fault(host, what string, err error) {
	now := time.Now()
	l.mu.Lock()
	last, before := l.logged[host]
	due := !before && len(l.logged) < known.MaxHosts || before && now.Sub(last) >= time.Minute
	if due {
		l.logged[host] = now
	}
	l.mu.Unlock()
	if due {
		l.o.Log.WithFields(logrus.Fields{"host": puller.Clip(host), "record": what}).WithError(err).Warn("a host of the fleet wrote what can't be read; it is left out")
	}
}
