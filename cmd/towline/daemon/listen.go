package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/docker/go-connections/sockets"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/api/connections"
	"github.com/towline/towline/configs"
)

// listenAll listens on every address, or on none. TCP is under TLS unless certificates is nil.
func listenAll(config configs.Config, certificates *certificates, log logrus.FieldLogger) (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	for _, address := range config.Listen {
		some, err := listen(address, config)
		listeners = append(listeners, some...)
		if err != nil {
			return listeners, fmt.Errorf("listen on %s: %w", address, err)
		}
	}
	if n := len(activation.Files(true)); n > 0 {
		return listeners, fmt.Errorf("systemd has passed %d sockets, and listen does not have fd://; write fd:// in listen", n)
	}
	for i, l := range listeners {
		tcp := l.Addr().Network() == "tcp"
		listeners[i] = connections.Limit(l, config.Limits.Connections)
		switch {
		case tcp && certificates != nil:
			listeners[i] = tls.NewListener(listeners[i], certificates.server())
		case tcp && !l.Addr().(*net.TCPAddr).IP.IsLoopback():
			log.WithField("address", l.Addr()).Warn("this address has no TLS, so others on the network can read tokens; set auth.tls.cert and auth.tls.key")
		}
		listeners[i] = connections.CheckHeads(listeners[i])
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

func listen(address string, config configs.Config) ([]net.Listener, error) {
	if address == configs.Activated {
		return activated(config.Auth)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	var l net.Listener
	if u.Scheme == "tcp" {
		l, err = net.Listen("tcp", u.Host)
	} else {
		l, err = listenUnix(u.Path, config.SocketGroup)
	}
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// listenUnix opens a unix socket for its owner and its group. It replaces the socket of a
// daemon that has ended, but not of a daemon that answers.
func listenUnix(path, group string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, errors.New("another daemon answers there; stop it, or listen somewhere else")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, errors.New("a file that is no socket has this path; remove it, or listen somewhere else")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	options := []sockets.SockOption{sockets.WithChmod(0o660)}
	if group != "" {
		id, err := groupID(group)
		if err != nil {
			return nil, err
		}
		options = append([]sockets.SockOption{sockets.WithChown(-1, id)}, options...)
	}
	return sockets.NewUnixSocketWithOpts(path, options...)
}

func groupID(group string) (int, error) {
	if id, err := strconv.Atoi(group); err == nil && id >= 0 && id < math.MaxUint32 { // -1 would change nothing
		return id, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("socket_group: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

// activated returns the sockets of systemd's socket activation (sd_listen_fds(3)).
func activated(auth configs.Auth) (listeners []net.Listener, err error) {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, errors.New("systemd has passed no socket; start the .socket unit, or name an address")
	}
	for _, f := range files {
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return listeners, fmt.Errorf("%s is no listening socket: %w", f.Name(), err)
		}
		listeners = append(listeners, l)
		switch network := l.Addr().Network(); {
		case network != "unix" && network != "tcp":
			return listeners, fmt.Errorf("%s is a %s socket; pass unix and TCP sockets", f.Name(), network)
		case network == "tcp" && !auth.KnowsCallers():
			return listeners, fmt.Errorf("%s is tcp://%s: %s", f.Name(), l.Addr(), configs.HowToKnow)
		}
	}
	return listeners, nil
}

// hosts returns the names of the daemon on TCP.
func hosts(config configs.Config) []string {
	names := config.Auth.Hosts
	for _, address := range config.Listen {
		if host, ok := strings.CutPrefix(address, "tcp://"); ok {
			names = append(names[:len(names):len(names)], host)
		}
	}
	return names
}
