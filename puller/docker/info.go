package docker

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/system"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
)

// Info implements engines.Engine.
func (e *Engine) Info(ctx context.Context) (puller.EngineInfo, error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	found, err := transport.Renegotiated(func() (puller.EngineInfo, error) { return e.info(ctx) })
	if err != nil {
		return puller.EngineInfo{}, err
	}
	found.Disk, err = e.Disk(ctx)
	return found, err
}

func (e *Engine) info(ctx context.Context) (puller.EngineInfo, error) {
	sdk, info, err := e.conn.SystemInfo(ctx)
	if err != nil {
		return puller.EngineInfo{}, err
	}
	e.noteDirs(sdk, info)
	version, err := sdk.ServerVersion(ctx)
	if err != nil {
		return puller.EngineInfo{}, e.conn.Classified(ctx, classify.OpInfo, "", err)
	}
	found := puller.EngineInfo{
		Name:       "Docker Engine",
		Version:    version.Version,
		APIVersion: sdk.ClientVersion(),
		ImageStore: imageStore(info),
		Reachable:  true,

		OwnRegistries: ownRegistries(info),
	}
	if version.Os == "windows" {
		found.OSVersion = info.OSVersion
	}
	if version.Os != "" && version.Arch != "" {
		found.Platform = version.Os + "/" + version.Arch
	}
	if transport.IsPodman(version) {
		found.Name = transport.Podman
	}
	return found, nil
}

// ownRegistries names the settings of registries that an engine has. With the containerd image
// store they count only for a registry of which hosts.toml names no mirror (Moby, mergeLegacyConfig
// in daemon/hosts.go). Loopback is insecure by default, also then.
func ownRegistries(info system.Info) string {
	if info.RegistryConfig == nil {
		return ""
	}
	var found []string
	if len(info.RegistryConfig.Mirrors) > 0 {
		found = append(found, "registry-mirrors")
	}
	if slices.ContainsFunc(insecure(info), isNoLoopback) {
		found = append(found, "insecure-registries")
	}
	return strings.Join(found, " and ")
}

func isNoLoopback(registry string) bool {
	prefix, err := netip.ParsePrefix(registry)
	return err != nil || !prefix.Addr().IsLoopback()
}

// InsecureRegistries returns the hosts, addresses and prefixes of registries that the
// engine calls without verified TLS. The error is classified.
func (e *Engine) InsecureRegistries(ctx context.Context) ([]string, error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	_, info, err := e.conn.SystemInfo(ctx)
	if err != nil {
		return nil, err
	}
	return insecure(info), nil
}

func insecure(info system.Info) (list []string) {
	if info.RegistryConfig == nil {
		return nil
	}
	for _, prefix := range info.RegistryConfig.InsecureRegistryCIDRs {
		if prefix != nil {
			list = append(list, prefix.String())
		}
	}
	for name, index := range info.RegistryConfig.IndexConfigs {
		if index != nil && !index.Secure && !index.Official {
			list = append(list, name)
		}
	}
	return list
}

func imageStore(info system.Info) string {
	for _, pair := range info.DriverStatus {
		if pair[0] == "driver-type" && pair[1] == "io.containerd.snapshotter.v1" {
			return puller.StoreContainerd
		}
	}
	return info.Driver
}
