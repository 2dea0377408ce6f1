package compose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/schema"
)

// maxSchemaFaults limits the faults that are searched in one document.
const maxSchemaFaults = 10

// schemaFault is one violation of the schema of the Compose specification.
type schemaFault struct {
	path    string
	line    int
	unknown bool // the schema has no such field
	value   any  // what was removed
	err     error
}

// schemaFaults returns the faults of a model, by line. The schema check stops at the
// first fault, so each fault is removed from the model before the next check.
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

// remove removes and returns the value at a dotted path, or the list that has it. Keys
// may have dots.
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

// schemaFaultsOf returns the faults of files whose variables are not expanded. It ignores
// values with variables. harmless reports whether the files can be loaded in spite of
// the faults, so that the rest of the project can be checked. That check includes pull
// policies.
func schemaFaultsOf(files []*file) (told Faults, harmless bool) {
	var policies Faults
	harmless = true
	for _, f := range files {
		if f == nil {
			continue
		}
		models, err := f.models()
		if err != nil {
			return nil, false // compose-go returns the error
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
