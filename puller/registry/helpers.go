package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"sync"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
)

// helpers runs credential helpers (docker-credential-NAME). One that hangs is
// ended, and left alone for a while. Its methods may be called from anywhere.
type helpers struct {
	limit, rest time.Duration

	mu   sync.Mutex
	hung map[string]time.Time // until when they are left alone
}

func newHelpers(limit, rest time.Duration) *helpers {
	return &helpers{limit: limit, rest: rest, hung: make(map[string]time.Time)}
}

// helperName is a helper's name as it may be part of a program's.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// tokenUser is whose password is an identity token (docker/cli,
// credentials/native_store.go).
const tokenUser = "<token>"

// get asks a helper for a login, which is none where it has none. The error names
// the program and has nothing in it of what that printed.
func (h *helpers) get(ctx context.Context, helper, key string) (authn.AuthConfig, error) {
	if !helperName.MatchString(helper) {
		return authn.AuthConfig{}, fmt.Errorf("%.100q is no name of a credential helper", helper)
	}
	program := "docker-credential-" + helper
	if left := h.left(program); left > 0 {
		return authn.AuthConfig{}, fmt.Errorf("%s did not answer within %s, and is not asked again for %s", program, h.limit, left.Round(time.Second))
	}
	ctx, cancel := context.WithTimeout(ctx, h.limit)
	defer cancel()
	found, err := client.Get(func(args ...string) client.Program { return newProgram(ctx, program, args) }, key)
	switch {
	case err == nil && found.Username == tokenUser:
		return authn.AuthConfig{IdentityToken: found.Secret}, nil
	case err == nil:
		return authn.AuthConfig{Username: found.Username, Password: found.Secret}, nil
	case credentials.IsErrCredentialsNotFound(err):
		return authn.AuthConfig{}, nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		h.mu.Lock()
		defer h.mu.Unlock()
		h.hung[program] = time.Now().Add(h.rest)
		return authn.AuthConfig{}, fmt.Errorf("%s did not answer within %s", program, h.limit)
	}
	if _, err := exec.LookPath(program); err != nil {
		return authn.AuthConfig{}, fmt.Errorf("%s is not there, or not to be run", program)
	}
	return authn.AuthConfig{}, fmt.Errorf("%s failed", program)
}

// left returns for how long a program is left alone.
func (h *helpers) left(program string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := time.Until(h.hung[program])
	if left <= 0 {
		delete(h.hung, program)
	}
	return left
}

// program is one call of a helper. With ctx it ends, and whatever it started.
type program struct{ *exec.Cmd }

func newProgram(ctx context.Context, name string, args []string) program {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second // for who holds its output open
	endGroup(cmd)
	return program{cmd}
}

// maxAnswer bounds a helper's answer, in bytes.
const maxAnswer = 64 << 10

// Input implements client.Program.
func (p program) Input(in io.Reader) { p.Stdin = in }

// Output implements client.Program. What the helper prints to stderr is dropped:
// it may have the secret in it.
func (p program) Output() ([]byte, error) {
	var out answer
	p.Stdout = &out
	err := p.Run()
	return out.content, err
}

// answer takes no more than maxAnswer. It embeds no buffer, whose ReadFrom would
// take all there is.
type answer struct{ content []byte }

func (a *answer) Write(b []byte) (int, error) {
	if len(a.content)+len(b) > maxAnswer {
		return 0, errors.New("the helper's answer is too long")
	}
	a.content = append(a.content, b...)
	return len(b), nil
}
