package compose_test

import (
	"strings"
	"testing"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/puller"
)

func FuzzParse(f *testing.F) {
	for _, file := range hostile() {
		if len(file) < 4<<10 {
			f.Add([]byte(file))
		}
	}
	for _, file := range []string{
		"services:\n  web: {image: 'nginx:${TAG:-1}', platform: linux/amd64, pull_policy: every_1d, profiles: [a, '${P}']}\n",
		"services:\n  a: {build: ., image: a}\n  b: {extends: {service: a}}\n  c: {provider: {type: x}}\n",
		"x: &x {image: a}\nservices: {a: {<<: *x, volumes: [{type: image, source: b, target: /b}], pre_start: [{image: c}]}}\n",
		"services: {a: {image: a, profiles: [p, q], pre_start: [{image: b}]}, b: {extends: a, profiles: [r], volumes: [{type: image, source: c, target: /c}]}}\n---\nservices: {b: {profiles: [s]}}\n",
		"services: {a: {extends: {file: other.yaml, service: other}}}\n---\ninclude: [other.yaml]\n",
		"include: [{path: [other.yaml], env_file: .env}]\nservices: {a: {image: a, env_file: .env}}\n",
		"services: {a: {image: a, pre_start: null, volumes: [a, {type: image}], build: {}}}\n---\nservices: {a: {volumes: [], extends: b}, b: {build: x}}\n",
	} {
		f.Add([]byte(file))
	}
	f.Chdir(canary(f))
	f.Fuzz(func(t *testing.T, content []byte) {
		var r puller.PrewarmRequest
		var err error
		mallocs, bytes := cost(func() {
			r, err = compose.Parse(t.Context(), content, map[string]string{"TAG": "2", "P": "a"}, []string{"*"})
		})
		if mallocs > maxMallocs || bytes > maxBytes {
			t.Errorf("%d objects, %d MiB", mallocs, bytes>>20)
		}
		if err != nil {
			if puller.KindOf(err) != puller.ErrInvalidRequest || len(err.Error()) > 1000 {
				t.Errorf("%s: %v", puller.KindOf(err), err)
			}
			return
		}
		for _, i := range r.Images {
			if _, err := puller.ParseReference(i.Image); err != nil {
				t.Error(err)
			}
		}
		if strings.Contains(asked(r), "stolen") {
			t.Errorf("a file was read: %s", asked(r))
		}
	})
}
