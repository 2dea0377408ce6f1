package requests

import "github.com/towline/towline/puller"

// PullBytes returns the size of a request.
func PullBytes(r *puller.PullRequest) int64 {
	return int64(len(r.Image) + len(r.Platform) + len(r.IdempotencyKey))
}

// RunBytes returns the size of what a run asks for beside its image.
func RunBytes(r *puller.RunRequest) int64 {
	n := len(r.Workdir) + len(r.User)
	for _, list := range [][]string{r.Cmd, r.Entrypoint} {
		for _, s := range list {
			n += len(s)
		}
	}
	for name, value := range r.Env {
		n += len(name) + len(value)
	}
	return int64(n)
}

// SkippedBytes returns the size of what a prewarm says of services that it skips.
func SkippedBytes(all []puller.Skipped) (n int64) {
	for _, s := range all {
		n += int64(len(s.Service) + len(s.Reason))
	}
	return n
}
