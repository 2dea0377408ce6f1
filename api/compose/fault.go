package compose

import (
	"fmt"
)

// maxTold is how much is told of several errors, in bytes; of one, all.
const maxTold = 900

// faults are errors that are told together, so that the author of a file sees
// more than the first.
type faults []error

func (f *faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// err returns them as one error, which is ErrInvalidRequest; nil for none.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	told := f[0].Error()
	for i, err := range f[1:] {
		next := err.Error()
		if len(told)+len(next) > maxTold {
			told += fmt.Sprintf("; and %d more", len(f)-1-i)
			break
		}
		told += "; " + next
	}
	if len(f) == 1 {
		return f[0]
	}
	return invalid("%s", told)
}
