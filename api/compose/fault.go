package compose

import (
	"fmt"
)

// maxFaultText limits the text of several faults, in bytes. One fault is told
// whole.
const maxFaultText = 900

// Faults is all that is wrong with a Compose project, in the order of its files and
// services. It is in the errors of [Load] and [Parse] if there are several.
type Faults []error

// Error joins the faults, up to some number of bytes.
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
