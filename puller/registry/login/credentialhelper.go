package login

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

const (
	// helperLimit is how long a helper may take.
	helperLimit = 10 * time.Second
	// helperPause is how long a helper that took longer is not called.
	helperPause = time.Minute
)

// credentialHelpers runs credential helpers (docker-credential-NAME). It kills a helper
// that hangs and does not call it for a while. Its methods may be called from anywhere.
type credentialHelpers struct {
	limit, pause time.Duration

	mu     sync.Mutex
	paused map[string]time.Time // until when
}

func newCredentialHelpers(limit, pause time.Duration) *credentialHelpers {
	return &credentialHelpers{limit: limit, pause: pause, paused: make(map[string]time.Time)}
}

// helperName is the form of a helper's name. It becomes part of a program's name.
var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// tokenUser is the user name that marks the password as an identity token (docker/cli,
// credentials/native_store.go).
const tokenUser = "<token>"

// get asks a helper for a login. It is empty where the helper has none. The error names the
// program and quotes nothing of its output.
func (h *credentialHelpers) get(ctx context.Context, helper, key string) (authn.AuthConfig, error) {
	if !helperName.MatchString(helper) {
		return authn.AuthConfig{}, fmt.Errorf("%.100q is no name of a credential helper", helper)
	}
	program := "docker-credential-" + helper
	if left := h.pauseLeft(program); left > 0 {
		return authn.AuthConfig{}, fmt.Errorf("%s did not answer within %s, and is not called again for %s", program, h.limit, left.Round(time.Second))
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
		h.paused[program] = time.Now().Add(h.pause)
		return authn.AuthConfig{}, fmt.Errorf("%s did not answer within %s", program, h.limit)
	}
	if _, err := exec.LookPath(program); err != nil {
		return authn.AuthConfig{}, fmt.Errorf("%s does not exist or is not executable", program)
	}
	return authn.AuthConfig{}, fmt.Errorf("%s failed", program)
}

// pauseLeft returns how long a program must not be called.
func (h *credentialHelpers) pauseLeft(program string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := time.Until(h.paused[program])
	if left <= 0 {
		delete(h.paused, program)
	}
	return left
}

// program is one call of a helper. When ctx ends, it and all processes that it started are
// killed.
type program struct{ *exec.Cmd }

func newProgram(ctx context.Context, name string, args []string) program {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second // a process outside the group can hold its output open
	killGroup(cmd)
	return program{cmd}
}

// maxAnswer limits a helper's answer, in bytes.
const maxAnswer = 64 << 10

// Input implements client.Program.
func (p program) Input(in io.Reader) { p.Stdin = in }

// Output implements client.Program. It drops stderr, which can have the secret in it.
func (p program) Output() ([]byte, error) {
	var out answer
	p.Stdout = &out
	err := p.Run()
	return out.content, err
}

// answer accepts at most maxAnswer bytes. A bytes.Buffer would accept all in ReadFrom.
type answer struct{ content []byte }

func (a *answer) Write(b []byte) (int, error) {
	if len(a.content)+len(b) > maxAnswer {
		return 0, errors.New("the helper's answer is too long")
	}
	a.content = append(a.content, b...)
	return len(b), nil
}
