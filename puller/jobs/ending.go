package jobs

import (
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/tracing"
)

// settle tells a job's readers how it has ended.
func (w *writer) settle(j *job.Job, saved bool) {
	select {
	case <-j.Settled():
		// It ended before, and could not be saved then.
		if saved {
			w.retire(j)
		}
		return
	default:
	}
	e := w.s.table.Get(j.ID())
	w.s.table.Ended(e)
	v := j.Settle()
	w.s.metrics.ended(&v)
	tracing.EndJob(e.Span, &v)
	logEnd(w.s.log, &v)
	if saved {
		w.retire(j)
	}
}

func logEnd(log logrus.FieldLogger, v *puller.Job) {
	fields := logrus.Fields{"job": v.ID, "kind": v.Kind, "state": v.State}
	if v.Image != "" {
		fields["image"] = v.Image
	}
	if v.Error != nil {
		fields["error_kind"], fields["error"] = v.Error.Kind, v.Error.Message
	} else {
		fields["source"], fields["seconds"] = v.Result.Source, v.Result.DurationSeconds
	}
	if v.TraceParent != "" {
		fields["traceparent"] = v.TraceParent
	}
	log.WithFields(fields).Info("job ended")
}
