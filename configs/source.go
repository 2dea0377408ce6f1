package configs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v4"
)

// Error is a fault of the configuration. Its text is one line: where the value comes
// from, its key, the value, and what is taken.
type Error struct{ text string }

func (e *Error) Error() string { return e.text }

// Locate returns an error that begins with a key as an Error that also says where its
// value comes from: an environment variable, or the file, "" for the default one, with
// the line. It returns other errors as they are.
func Locate(file string, err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	text := strings.TrimPrefix(err.Error(), "configuration: ")
	key := keyOf(text)
	if key == "" {
		return err
	}
	if name := variableOf(key); os.Getenv(name) != "" {
		return &Error{fmt.Sprintf("configuration: environment variable %s: %s", name, text)}
	}
	if file == "" {
		file = File
	}
	content, missing := os.ReadFile(file)
	if missing != nil {
		return &Error{"configuration: " + text}
	}
	return &Error{fmt.Sprintf("configuration %s%s: %s", file, line(content, key), text)}
}

// keyOf returns the key that a text begins with, "" for none.
func keyOf(text string) (key string) {
	keys := []string{"registries.credentials"}
	for _, k := range settings(new(Config)) {
		keys = append(keys, k.key)
	}
	for _, k := range keys {
		rest, ok := strings.CutPrefix(text, k)
		if ok && len(k) > len(key) && (strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "[")) {
			key = k
		}
	}
	return key
}

// variableOf returns the environment variable of a key.
func variableOf(key string) string {
	return "TOWLINE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// line returns ", line N" where a file has a key, or else the section that the key is
// in, and "" where it has neither.
func line(content []byte, key string) string {
	var document yaml.Node
	if yaml.Unmarshal(content, &document) != nil || len(document.Content) == 0 {
		return ""
	}
	lines := make(map[string]int)
	keyLines(resolve(document.Content[0]), "", lines, 0)
	for key != "" {
		if n := lines[key]; n > 0 {
			return fmt.Sprintf(", line %d", n)
		}
		key = key[:max(0, strings.LastIndexByte(key, '.'))]
	}
	return ""
}

// syntaxFault says in which line a file is no YAML, and why.
func syntaxFault(err error) string {
	var parse viper.ConfigParseError
	if errors.As(err, &parse) {
		err = parse.Unwrap()
	}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := ""
	if at, rest, found := strings.Cut(text, ": "); found && strings.HasPrefix(at, "line ") {
		line, text = ", "+at, rest
	}
	return line + ": it is no YAML: " + strings.Join(strings.Fields(text), " ")
}

// keyLines notes the line of each key of a mapping and its sections. Aliases could be
// many times as large as the file; the limit ends that.
func keyLines(node *yaml.Node, prefix string, lines map[string]int, depth int) {
	const maxDepth, maxKeys = 8, 10_000
	if node.Kind != yaml.MappingNode || depth > maxDepth || len(lines) > maxKeys {
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], resolve(node.Content[i+1])
		if name.Value == "<<" {
			for _, n := range merged(value) {
				keyLines(n, prefix, lines, depth+1)
			}
			continue
		}
		key := prefix + strings.ToLower(name.Value)
		lines[key] = name.Line
		keyLines(value, key+".", lines, depth+1)
	}
}
