package names

import "testing"

// The queue, cool-downs and a plan's failures go by it.
func TestRegistryForms(t *testing.T) {
	for image, registry := range map[string]string{
		"127.0.0.1:05000/x:v1": "127.0.0.1:5000", "[::ffff:7f00:1]:5000/y:v1": "127.0.0.1:5000", "LOCALHOST:5000/x:v1": "localhost:5000",
		"registry-1.docker.io/library/alpine:3.20": "docker.io", "docker.io/library/alpine:3.20": "docker.io",
		"127.1:5000/x:v1": "127.1:5000", // of a job that an older version has accepted
	} {
		if got := RegistryOf(image); got != registry {
			t.Errorf("%s is of %s, not of %s", image, got, registry)
		}
	}
}
