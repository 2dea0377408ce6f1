package compose

import (
	"fmt"
)

// maxFaultText limits the text of several faults, in bytes. The first fault is always
// complete.
const maxFaultText = 900

// Faults lists all that is wrong with a Compose project, in the order of its files and
// services. If there are several faults, the errors of [Load] and [Parse] wrap it.
type Faults []error

// Error joins the faults. It leaves out and counts those that would make it too long.
func (f Faults) Error() string {
	text := ""
	for i, err := range f {
		next := err.Error()
		if i > 0 && len(text)+len(next) > maxFaultText {
			return text + fmt.Sprintf("; and %d more", len(f)-i)
		}
		if i > 0 {
			text += "; "
		}
		text += next
	}
	return text
}

// Unwrap returns the faults.
func (f Faults) Unwrap() []error { return f }

func (f *Faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// err returns the faults as one error, which is ErrInvalidRequest; nil for none.
func (f Faults) err() error {
	switch len(f) {
	case 0:
		return nil
	case 1:
		return f[0]
	}
	return invalid("%w", f)
}
