package api

import (
	"cmp"
	"net/http"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/auth"
	"github.com/towline/towline/puller"
)

// audit logs who has asked for what, a line for each job that is accepted, for each change of
// the fleet, and for each request that is refused to its caller. The lines have no query and no header, where
// secrets may be.
type audit struct{ log logrus.FieldLogger }

// accepted logs a job that a request has brought.
func (a audit) accepted(r *http.Request, j puller.Job) {
	fields := a.fields(r)
	fields["job"], fields["kind"] = j.ID, j.Kind
	if j.Kind == puller.JobPrewarm {
		fields["images"] = len(j.Children)
	} else {
		fields["image"] = j.Image
	}
	a.log.WithFields(fields).Info("job accepted")
}

// changed logs a change that is no job. what is the field of what was changed, and name its
// value.
func (a audit) changed(r *http.Request, what, name, message string) {
	fields := a.fields(r)
	fields[what] = name
	a.log.WithFields(fields).Info(message)
}

// refused logs a request whose caller is not known, or may not make it. It ignores other
// errors.
func (a audit) refused(r *http.Request, err error) {
	switch kind := puller.KindOf(err); kind {
	case puller.ErrUnauthorized, puller.ErrForbidden:
		fields := a.fields(r)
		fields["kind"] = kind
		a.log.WithFields(fields).WithError(err).Warn("request refused")
	}
}

func (a audit) fields(r *http.Request) logrus.Fields {
	source := r.RemoteAddr
	who, known := auth.CallerOf(r)
	if known && who.Local {
		source = "unix socket"
	}
	return logrus.Fields{
		"caller": cmp.Or(who.Name, auth.Stranger(r.RemoteAddr)), "route": cmp.Or(r.Pattern, r.Method+" "+clip(r.URL.Path)), "source": source,
	}
}
