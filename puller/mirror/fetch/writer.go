package fetch

import "context"

// writer writes what a task reads into the sink.
type writer struct {
	fetcher *Fetcher
	task    *task
	at      int64
	skip    bool    // write only what is missing
	missing []Range // from at on
}

func (w *writer) write(p []byte) error {
	if w.task.ctx.Err() != nil {
		return context.Cause(w.task.ctx) // the sink may have begun anew
	}
	written := 0
	if !w.skip {
		if len(p) > 0 {
			if _, err := w.task.blob.sink.WriteAt(p, w.at); err != nil {
				return sinkError{err}
			}
		}
		written = len(p)
	}
	end := w.at + int64(len(p))
	for w.skip && len(w.missing) > 0 && w.missing[0].From < end {
		r := &w.missing[0]
		from, to := max(r.From, w.at), min(r.To, end)
		if from < to {
			if _, err := w.task.blob.sink.WriteAt(p[from-w.at:to-w.at], from); err != nil {
				return sinkError{err}
			}
			written += int(to - from)
		}
		if r.To > end {
			break
		}
		w.missing = w.missing[1:]
	}
	w.at = end
	f := w.fetcher
	f.mu.Lock()
	w.task.at = end
	written = w.task.count(written, end)
	f.mu.Unlock()
	if progress := w.task.blob.work.Progress; progress != nil && written > 0 {
		progress(written)
	}
	return nil
}
