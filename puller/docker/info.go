package docker

import (
	"context"

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

// InsecureRegistries returns the hosts, addresses and prefixes of registries that the
// engine calls without verified TLS. The error is classified.
func (e *Engine) InsecureRegistries(ctx context.Context) ([]string, error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	_, info, err := e.conn.SystemInfo(ctx)
	if err != nil {
		return nil, err
	}
	if info.RegistryConfig == nil {
		return nil, nil
	}
	var list []string
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
	return list, nil
}

func imageStore(info system.Info) string {
	for _, pair := range info.DriverStatus {
		if pair[0] == "driver-type" && pair[1] == "io.containerd.snapshotter.v1" {
			return puller.StoreContainerd
		}
	}
	return info.Driver
}
