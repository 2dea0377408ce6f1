// Package explain says of each kind of error what it means and what mends it.
package explain

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/towline/towline/puller"
)

//go:embed TROUBLESHOOTING.md
var page string

// Section returns the section of the page on a kind, without its title, "" for a kind that
// is not known.
func Section(kind puller.ErrorKind) string {
	_, rest, found := strings.Cut(page, "\n## "+string(kind)+"\n")
	if !found {
		return ""
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	return strings.Trim(section, "\n")
}

// Advice returns the one sentence that says what mends a kind, "" for a kind that is not
// known.
func Advice(kind puller.ErrorKind) string { return paragraph(Section(kind), "To mend it: ") }

// paragraph returns the paragraph of a section that begins with some words, as one line
// without them.
func paragraph(section, begin string) string {
	for p := range strings.SplitSeq(section, "\n\n") {
		if text, ok := strings.CutPrefix(p, begin); ok {
			return strings.ReplaceAll(text, "\n", " ")
		}
	}
	return ""
}

// Write writes the section on a kind.
func Write(out io.Writer, kind puller.ErrorKind) error {
	_, err := fmt.Fprintf(out, "%s\n\n%s\n", kind, Section(kind))
	return err
}

// List writes all kinds, each with what it means.
func List(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, kind := range puller.ErrorKinds() {
		meaning, _, _ := strings.Cut(Section(kind), "\n\n")
		sentence, _, _ := strings.Cut(strings.ReplaceAll(meaning, "\n", " "), ". ")
		fmt.Fprintf(w, "%s\t%s.\n", kind, strings.TrimSuffix(sentence, "."))
	}
	return w.Flush()
}
