package configs

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/docker/go-units"
)

// Mirror holds the settings of the accelerator.
type Mirror struct {
	// Mode is how the engine is given what Towline fetches: auto, or one of the ways.
	Mode   string `mapstructure:"mode" default:"auto" oneof:"auto, mirror, alias, none"`
	Listen string `mapstructure:"listen" default:"127.0.0.1:7079"` // a loopback address and a port
	// HostsDir is a directory in the form of Docker's certs.d, where Towline writes
	// _default/hosts.toml; "" for none.
	HostsDir string `mapstructure:"hosts_dir"`
	// PullThrough serves images of public repositories to every pull of the engine.
	PullThrough bool  `mapstructure:"pull_through"`
	Connections int   `mapstructure:"connections" default:"24" range:"1..1000"` // to all registries
	PerRegistry int   `mapstructure:"per_registry" default:"24" range:"1..1000"`
	Chunk       int64 `mapstructure:"chunk" default:"16MiB" range:"1MiB..1GiB"`     // bytes that one request asks for
	Rate        int64 `mapstructure:"rate" default:"0" range:"0MiB..1TiB"`          // bytes a second at most; 0 is without limit
	Cache       int64 `mapstructure:"cache" default:"20GiB" range:"64MiB..1024TiB"` // bytes of blobs that are kept
	MinSize     int64 `mapstructure:"min_size" default:"32MiB" range:"0MiB..1TiB"`  // of an image, compressed
}

// check returns the first fault that the tags do not say.
func (m Mirror) check() error {
	at, err := netip.ParseAddrPort(m.Listen)
	switch {
	case err != nil:
		return fmt.Errorf("mirror.listen: %q is not an address and a port, such as 127.0.0.1:7079", m.Listen)
	case !at.Addr().Is4() || !at.Addr().IsLoopback(): // engines take no name with an IPv6 address in it
		return fmt.Errorf("mirror.listen: %s is not in 127.0.0.0/8; only this machine's engine may fetch from there", at.Addr())
	case m.HostsDir != "" && !filepath.IsAbs(m.HostsDir):
		return fmt.Errorf("mirror.hosts_dir: %q is not an absolute path", m.HostsDir)
	case m.Mode == "mirror" && m.HostsDir == "":
		return fmt.Errorf("mirror.hosts_dir: missing; mirror.mode mirror needs it, such as /etc/docker/certs.d")
	}
	return nil
}

// sizeHook reads sizes such as 16MiB.
func sizeHook(from, to reflect.Type, value any) (any, error) {
	written, ok := value.(string)
	if !ok || to.Kind() != reflect.Int64 && to.Kind() != reflect.Int || !strings.HasSuffix(written, "iB") {
		return value, nil
	}
	return units.RAMInBytes(written)
}
