package compose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/schema"
)

// maxSchemaFaults limits the faults that are looked for in one document.
const maxSchemaFaults = 10

// schemaFault is one breach of the Compose specification's schema.
type schemaFault struct {
	path    string
	line    int
	unknown bool // the schema has no such field
	value   any  // what was removed
	err     error
}

// schemaFaults returns what is wrong with a model, by line. The schema stops at the
// first fault, so each is removed from the model before the next is looked for.
func (f *file) schemaFaults(model map[string]any) (all []schemaFault) {
	for range maxSchemaFaults {
		err := schema.Validate(model)
		if err == nil {
			break
		}
		path, unknown, err := f.fault(err)
		value, removed := remove(model, path)
		all = append(all, schemaFault{path, f.line(path), unknown, value, err})
		if !removed {
			break
		}
	}
	slices.SortStableFunc(all, func(a, b schemaFault) int { return cmp.Compare(a.line, b.line) })
	return all
}

// remove removes and returns what is at a dotted path, or the list that it is in.
// Keys may have dots in them.
func remove(model map[string]any, path string) (value any, ok bool) {
	for key, value := range model {
		rest, ok := strings.CutPrefix(path, key)
		if !ok || rest != "" && rest[0] != '.' {
			continue
		}
		if within, ok := value.(map[string]any); ok && rest != "" {
			if value, ok := remove(within, rest[1:]); ok {
				return value, true
			}
		}
		delete(model, key)
		return value, true
	}
	return nil, false
}

// schemaFaultsOf returns what is wrong with files whose variables are not put in: a
// value that has one is passed over. harmless reports whether the files can be
// loaded all the same, so that the rest of the project can be checked. A pull policy
// is left to that check.
func schemaFaultsOf(files []*file) (told Faults, harmless bool) {
	var policies Faults
	harmless = true
	for _, f := range files {
		if f == nil {
			continue
		}
		models, err := f.models()
		if err != nil {
			return nil, false // compose-go says it
		}
		for _, model := range models {
			for _, fault := range f.schemaFaults(model) {
				switch {
				case !fault.unknown && strings.Contains(fmt.Sprint(fault.value), "$"):
				case strings.HasSuffix(fault.path, ".pull_policy"):
					policies.add(fault.err)
				default:
					told.add(fault.err)
					harmless = harmless && fault.unknown
				}
			}
		}
	}
	if !harmless {
		told = append(told, policies...)
	}
	return told, harmless && len(told)+len(policies) > 0
}
