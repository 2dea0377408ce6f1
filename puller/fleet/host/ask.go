package host

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
)

const askLimit = 2 * time.Second // for an answer

// asker asks the controllers with whom this host shares its sets.
type asker struct {
	o      Options
	names  fleet.Subjects
	table  *table
	joined atomic.Bool // the link is up
}

// ask asks with whom this host shares its sets, again and again.
func (a *asker) ask(ctx context.Context, conn *nats.Conn) error {
	for {
		for _, name := range a.dueGroups() {
			a.askOne(ctx, conn, name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a.o.Every):
		}
	}
}

// dueGroups returns the sets whose groups are to be asked for.
func (a *asker) dueGroups() (all []string) {
	for _, name := range a.table.names() {
		if l, ok := a.table.get(name); ok && l.Generation > 0 && l.put && a.o.Groups.due(name, l.Generation) {
			all = append(all, name)
		}
	}
	return all
}

// askNow asks for the group of a set before its images are pulled.
func (a *asker) askNow(ctx context.Context, name string) {
	if a.joined.Load() {
		a.askOne(ctx, a.o.Link.Conn(), name)
	}
}

func (a *asker) askOne(ctx context.Context, conn *nats.Conn, name string) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var answer fleet.Answer
	m, err := conn.RequestWithContext(ctx, a.names.Ask(a.o.Host), fleet.Encode(fleet.Question{Set: name}))
	if err == nil && len(m.Data) <= fleet.MaxAnswer {
		err = json.Unmarshal(m.Data, &answer)
	}
	if err != nil {
		answer.Group = nil
	}
	if answer.Error != "" && a.o.Groups.refused(name, answer.Error) {
		a.o.Log.WithFields(logrus.Fields{"set": name, "reason": puller.Clip(answer.Error)}).Warn("the fleet does not say with whom this host shares a set: it pulls without the others")
	}
	if l, ok := a.table.get(name); ok {
		a.o.Groups.put(l.DesiredSet, answer.Group, l.report.State != fleet.StateProven)
	}
}
