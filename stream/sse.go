package stream

// AppendSSE appends one server-sent event as the HTML standard's "Server-sent
// events" section has it. An empty id or event is left out. A reader sees data
// as it is given here, but for its line ends: \r\n and \r arrive as \n. Line
// ends and NUL in id and event, which would break the frame, are dropped.
func AppendSSE(dst []byte, id, event string, data []byte) []byte {
	if id != "" {
		dst = appendField(dst, "id: ", id)
	}
	if event != "" {
		dst = appendField(dst, "event: ", event)
	}
	dst = append(dst, "data: "...)
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\r' && i+1 < len(data) && data[i+1] == '\n':
			// The \n does it.
		case c == '\r', c == '\n':
			dst = append(dst, "\ndata: "...)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, "\n\n"...)
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, name...)
	for i := range len(value) {
		if c := value[i]; c != '\n' && c != '\r' && c != 0 {
			dst = append(dst, c)
		}
	}
	return append(dst, '\n')
}
