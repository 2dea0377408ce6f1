package puller

import (
	"fmt"
	"strings"
)

// Clip shortens outside text for a message.
func Clip(s string) string { return ClipTo(s, 120) }

// ClipTo shortens a text to so many bytes.
func ClipTo(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Listed joins words for a message, as many as it takes.
func Listed[T ~string](words []T) string {
	const most = 10
	all := make([]string, 0, most+1)
	for i, w := range words {
		if i == most {
			all = append(all, fmt.Sprintf("and %d more", len(words)-most))
			break
		}
		all = append(all, string(w))
	}
	return strings.Join(all, ", ")
}
