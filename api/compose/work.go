package compose

import (
	"maps"
	"slices"
)

// maxWork bounds what compose-go is given, in values that it handles: each of
// them takes it some 15 µs. It counts each service with all that it extends,
// and each document again with those before it, since compose-go goes through
// the whole model once for each document.
const maxWork = 50_000

// Costs of what is not one value.
const (
	textPerValue  = 32 // bytes of text that cost as much as a value
	pairsPerValue = 20 // entries of two lists that are compared with each other
)

// lists are the fields of a service whose entries compose-go compares with each
// other where it merges two services.
var lists = []string{"profiles", "volumes", "pre_start"}

// extent is how much of a service there is.
type extent struct {
	values  int
	entries [3]int // of each of lists
}

// with returns the extent of a service that is merged with another, and what
// the merge costs beside its values.
func (e extent) with(o extent) (merged extent, pairs int) {
	e.values += o.values
	for i := range lists {
		pairs += e.entries[i] * o.entries[i]
		e.entries[i] += o.entries[i]
	}
	return e, pairs / pairsPerValue
}

// checkWork refuses documents that compose-go would take too long to merge. It
// computes nothing of what comes out, it only counts. The services extend one
// another in rows of at most maxExtends, which check has found.
func (f *file) checkWork(models []map[string]any) error {
	all := map[string]extent{} // of the documents so far
	sum, work := 0, 0          // sum is of the values in all
	for _, model := range models {
		services, _ := model["services"].(map[string]any)
		known := map[string]extent{}
		var count func(name string) extent
		count = func(name string) extent {
			if e, ok := known[name]; ok {
				return e
			}
			e := extentOf(services[name])
			if base := extended(services[name]); base != "" {
				merged, pairs := e.with(count(base))
				e = merged
				work += pairs
			}
			known[name] = e
			return e
		}
		for _, name := range slices.Sorted(maps.Keys(services)) {
			e := count(name)
			merged, pairs := all[name].with(e)
			all[name] = merged
			sum += e.values
			work += e.values + pairs
			if work+sum > maxWork {
				return f.at("services."+name, invalid("too much to merge up to here, with what the services extend and list; extend less, or send fewer services"))
			}
		}
		work += sum
	}
	return nil
}

func extentOf(service any) (e extent) {
	e.values = weight(service)
	fields, _ := service.(map[string]any)
	for i, name := range lists {
		entries, _ := fields[name].([]any)
		e.entries[i] = len(entries)
	}
	return e
}

// weight counts the values in one, and its text. Of a text that is too long,
// the field is told later.
func weight(v any) int {
	sum := 1
	switch v := v.(type) {
	case map[string]any:
		for key, field := range v {
			sum += len(key)/textPerValue + weight(field)
		}
	case []any:
		for _, entry := range v {
			sum += weight(entry)
		}
	case string:
		sum += min(len(v), maxText) / textPerValue
	}
	return sum
}
