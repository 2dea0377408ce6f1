// Package audit logs who has asked for what.
package audit

import (
	"cmp"
	"net/http"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/api/input"
	"github.com/towline/towline/puller"
)

// Log has a line for each job that is accepted, for each change of the fleet, and for each
// request that is refused to its caller. The lines have no query and no header, where secrets
// may be.
type Log struct{ To logrus.FieldLogger }

// Accepted logs a job that a request has brought.
func (a Log) Accepted(r *http.Request, j puller.Job) {
	fields := a.fields(r)
	fields["job"], fields["kind"] = j.ID, j.Kind
	if j.Kind == puller.JobPrewarm {
		fields["images"] = len(j.Children)
	} else {
		fields["image"] = j.Image
	}
	a.To.WithFields(fields).Info("job accepted")
}

// Changed logs a change that is no job, with what was changed.
func (a Log) Changed(r *http.Request, what logrus.Fields, message string) {
	a.To.WithFields(a.fields(r)).WithFields(what).Info(message)
}

// Refused logs a request whose caller is not known, or may not make it. It ignores other
// errors.
func (a Log) Refused(r *http.Request, err error) {
	switch kind := puller.KindOf(err); kind {
	case puller.ErrUnauthorized, puller.ErrForbidden:
		fields := a.fields(r)
		fields["kind"] = kind
		a.To.WithFields(fields).WithError(err).Warn("request refused")
	}
}

func (a Log) fields(r *http.Request) logrus.Fields {
	source := r.RemoteAddr
	who, known := auth.CallerOf(r)
	if known && who.Local {
		source = "unix socket"
	}
	return logrus.Fields{
		"caller": cmp.Or(who.Name, auth.Stranger(r.RemoteAddr)), "route": cmp.Or(r.Pattern, r.Method+" "+input.Clip(r.URL.Path)), "source": source,
	}
}
