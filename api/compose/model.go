package compose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// relevant are the fields of a container that decide its image.
var relevant = []string{"image", "platform", "pull_policy", "profiles", "extends"}

// reduce returns the parts of a document that decide the images. The other parts are not
// processed. Their variables need no value.
func reduce(model map[string]any) map[string]any {
	services := map[string]any{}
	all, _ := model["services"].(map[string]any)
	for name, s := range all {
		service, _ := s.(map[string]any)
		kept := pick(service)
		if service["build"] != nil {
			kept["build"] = map[string]any{"context": "."}
		}
		if provider, ok := service["provider"].(map[string]any); ok {
			kept["provider"] = map[string]any{"type": provider["type"]}
		}
		volumes, _ := service["volumes"].([]any)
		var images []any
		for _, v := range volumes {
			if volume, ok := v.(map[string]any); ok && volume["type"] == types.VolumeTypeImage {
				images = append(images, map[string]any{"type": volume["type"], "source": volume["source"], "target": volume["target"]})
			}
		}
		if len(images) > 0 {
			kept["volumes"] = images
		}
		hooks, _ := service["pre_start"].([]any)
		var starts []any
		for _, h := range hooks {
			if hook, ok := h.(map[string]any); ok {
				starts = append(starts, pick(hook))
			}
		}
		if len(starts) > 0 {
			kept["pre_start"] = starts
		}
		services[name] = kept
	}
	return map[string]any{"services": services}
}

func pick(container map[string]any) map[string]any {
	kept := map[string]any{}
	for _, field := range relevant {
		if v := container[field]; v != nil {
			kept[field] = v
		}
	}
	return kept
}

// services returns the active services of the merged model, in the order of the file.
func (f *file) services(model map[string]any, lookup lookup, profiles []string) ([]types.ServiceConfig, error) {
	var active []types.ServiceConfig
	all, _ := model["services"].(map[string]any)
	for name, s := range all {
		fields, _ := s.(map[string]any)
		service := types.ServiceConfig{Name: name, ContainerSpec: container(fields)}
		listed, _ := fields["profiles"].([]any)
		for _, p := range listed {
			profile, _, err := expand(fmt.Sprint(p), lookup)
			if err != nil {
				return nil, f.at("services."+name+".profiles", err)
			}
			service.Profiles = append(service.Profiles, profile)
		}
		if !service.HasProfile(profiles) {
			continue
		}
		if fields["build"] != nil {
			service.Build = &types.BuildConfig{}
		}
		if provider, ok := fields["provider"].(map[string]any); ok {
			service.Provider = &types.ServiceProviderConfig{Type: text(provider["type"])}
		}
		volumes, _ := fields["volumes"].([]any)
		for _, v := range volumes {
			if volume, ok := v.(map[string]any); ok {
				service.Volumes = append(service.Volumes, types.ServiceVolumeConfig{Type: types.VolumeTypeImage, Source: text(volume["source"])})
			}
		}
		hooks, _ := fields["pre_start"].([]any)
		for _, h := range hooks {
			hook, _ := h.(map[string]any)
			service.PreStart = append(service.PreStart, types.PreStartHook{ContainerSpec: container(hook)})
		}
		active = append(active, service)
	}
	lines := f.serviceLines()
	slices.SortFunc(active, func(a, b types.ServiceConfig) int {
		if c := lines[a.Name] - lines[b.Name]; c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return active, nil
}

func container(fields map[string]any) types.ContainerSpec {
	return types.ContainerSpec{Image: text(fields["image"]), Platform: text(fields["platform"]), PullPolicy: text(fields["pull_policy"])}
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
