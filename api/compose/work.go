package compose

import (
	"maps"
	"slices"
)

// maxWork bounds the work of compose-go, in values that it processes. Each takes some
// 15 µs. A service counts with all services that it extends. A document counts with all
// documents before it, since compose-go processes the whole model for each document.
const maxWork = 50_000

// Costs of texts and lists.
const (
	textPerValue  = 32 // bytes of text that count as one value
	pairsPerValue = 20 // comparisons of list entries that count as one value
)

// lists are the fields whose entries compose-go compares with each other when it merges
// two services.
var lists = []string{"profiles", "volumes", "pre_start"}

// extent is the size of a service.
type extent struct {
	values  int
	entries [3]int // of each of lists
}

// with returns the extent of two merged services, and the cost of comparing their lists.
func (e extent) with(o extent) (merged extent, pairs int) {
	e.values += o.values
	for i := range lists {
		pairs += e.entries[i] * o.entries[i]
		e.entries[i] += o.entries[i]
	}
	return e, pairs / pairsPerValue
}

// checkWork refuses documents that compose-go would take too long to merge. It only
// counts. check has refused services that extend themselves, and chains of more than
// maxExtends services.
func (f *file) checkWork(models []map[string]any) error {
	all := map[string]extent{} // of the documents so far
	sum, work := 0, 0          // sum is the number of values in all
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
				return f.at("services."+name, invalid("too much to merge up to here, counting what the services extend and list; extend less, or send fewer services"))
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

// weight counts the values in a value, and its text. expand refuses a text that is too
// long later, and names its field.
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
