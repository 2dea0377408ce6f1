package configs

import "reflect"

// Changed returns the keys whose values differ in two configurations, in their order in
// Config.
func Changed(before, after Config) (keys []string) {
	b, a := settings(&before), settings(&after)
	for i := range b {
		if !reflect.DeepEqual(b[i].value.Interface(), a[i].value.Interface()) {
			keys = append(keys, b[i].key)
		}
	}
	if !reflect.DeepEqual(before.Registries.Credentials, after.Registries.Credentials) {
		keys = append(keys, "registries.credentials")
	}
	return keys
}
