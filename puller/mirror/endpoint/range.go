package endpoint

import (
	"net/http"
	"strconv"
	"strings"
)

// parseRange returns the part of a blob that the values of a header Range ask for, from
// one offset to the one after its last byte, and the status of the answer (RFC 9110,
// 14.1.2 and 14.2). It knows bytes=N- and bytes=N-M. For any other form it returns the
// whole blob with 200, as the RFC allows.
func parseRange(values []string, size int64) (from, to int64, status int) {
	if len(values) != 1 {
		return 0, size, http.StatusOK
	}
	spec, ok := strings.CutPrefix(values[0], "bytes=")
	first, last, isRange := strings.Cut(spec, "-")
	if !ok || !isRange || !isNumber(first) || last != "" && !isNumber(last) {
		return 0, size, http.StatusOK
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from >= size { // an error says that it is too large
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	}
	to = size
	if last != "" {
		switch end, err := strconv.ParseInt(last, 10, 64); {
		case err != nil:
		case end < from:
			return 0, size, http.StatusOK
		case end < size:
			to = end + 1
		}
	}
	return from, to, http.StatusPartialContent
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
