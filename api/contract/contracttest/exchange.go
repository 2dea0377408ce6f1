package contracttest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// exchange is a request and its answer.
type exchange struct {
	request *http.Request
	sent    []byte // the body of the request, as far as it was read
	status  int
	header  http.Header
	body    []byte
	cut     bool // the answer has ended early
}

// check compares an exchange with the contract.
func (c *Contract) checkExchange(e *exchange) error {
	if e.status/100 == 3 && path.Clean(e.request.URL.Path) != e.request.URL.Path && e.header.Get("Location") != "" {
		return nil // to the clean path
	}
	o := c.operation(e.request)
	if o == nil {
		return c.checkRefusal(e)
	}
	status := strconv.Itoa(e.status)
	if o.responses[status] == nil {
		status = status[:1] + "XX"
	}
	response, at := o.responses[status], o.locations[status]
	if response == nil {
		return fmt.Errorf("%s has no answer %d", o, e.status)
	}
	if e.status < 300 {
		if err := c.checkRequest(o, e); err != nil {
			return fmt.Errorf("it was accepted, but %w", err)
		}
	}
	for name, v := range object(response["headers"]) {
		h, where := c.resolve(v, at+"/headers/"+name)
		switch value := e.header.Get(name); {
		case value == "" && h["required"] == true:
			return fmt.Errorf("the answer has no header %s", name)
		case value != "":
			if err := c.checkText(where+"/schema", value); err != nil {
				return fmt.Errorf("the answer's header %s is %q: %w", name, value, err)
			}
		}
	}
	if err := c.checkBody(e, response, at); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[o.answer(status, mediaOf(e.header.Get("Content-Type")))] = true
	return nil
}

// checkBody compares the body of an answer.
func (c *Contract) checkBody(e *exchange, response map[string]any, at string) error {
	content := object(response["content"])
	media := mediaOf(e.header.Get("Content-Type"))
	if len(content) == 0 {
		return nil // net/http allows no body with 204
	}
	kind := object(content[media])
	if kind == nil {
		return fmt.Errorf("the answer is %q, not %s", media, names(content))
	}
	if e.request.Method == http.MethodHead {
		return nil
	}
	at += "/content/" + escape(media)
	if kind["x-itemSchema"] != nil {
		return c.checkItems(media, at+"/x-itemSchema", e)
	}
	switch {
	case e.cut:
		return nil
	case strings.HasSuffix(media, "json"):
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.body))
		if err != nil {
			return fmt.Errorf("the answer is no JSON: %w", err)
		}
		return c.check(at+"/schema", v)
	}
	return c.check(at+"/schema", string(e.body))
}

// checkItems compares each event, or line, of a stream. The last one may be cut.
func (c *Contract) checkItems(media, at string, e *exchange) error {
	end := "\n"
	if media == "text/event-stream" {
		end = "\n\n"
	}
	for rest := string(e.body); rest != ""; {
		item, next, whole := strings.Cut(rest, end)
		if !whole {
			if e.cut {
				return nil
			}
			return fmt.Errorf("the stream ends within %q", item)
		}
		rest = next
		var fields map[string]string
		if media == "text/event-stream" {
			fields = make(map[string]string)
			for line := range strings.SplitSeq(item, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				fields[name] += value
			}
			if item = fields["data"]; item == "" && fields["retry"] != "" {
				continue
			}
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(item))
		if err == nil {
			err = c.check(at, v)
		}
		if err == nil && fields != nil {
			err = checkFields(fields, object(v))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", item, err)
		}
	}
	return nil
}

// checkFields compares the fields of an SSE event with the event.
func checkFields(fields map[string]string, event map[string]any) error {
	seq := ""
	if n, ok := event["seq"].(json.Number); ok {
		seq = n.String()
	}
	if fields["event"] != event["type"] || fields["id"] != seq {
		return fmt.Errorf("its fields are event %q and id %q", fields["event"], fields["id"])
	}
	return nil
}

// checkRefusal checks the answer to a request that the contract does not have.
func (c *Contract) checkRefusal(e *exchange) error {
	if e.status < 300 {
		return fmt.Errorf("openapi.yaml has no %s %s", e.request.Method, e.request.URL.Path)
	}
	schema := ""
	switch mediaOf(e.header.Get("Content-Type")) {
	case "application/problem+json":
		schema = "#/components/schemas/Problem"
	case "application/json":
		schema = "#/components/responses/DockerError/content/application~1json/schema"
	case "text/plain":
		if strings.Contains(e.request.Header.Get("Accept"), "text/plain") {
			return c.check("#/components/schemas/Lines", string(e.body))
		}
	}
	if len(e.body) == 0 || e.cut {
		return nil
	}
	if schema == "" {
		return fmt.Errorf("the refusal %d is %q", e.status, e.header.Get("Content-Type"))
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.body))
	if err != nil {
		return err
	}
	return c.check(schema, v)
}

// checkRequest compares a request that was accepted.
func (c *Contract) checkRequest(o *Operation, e *exchange) error {
	query := e.request.URL.Query()
	for _, p := range o.parameters {
		var values []string
		switch p.in {
		case "query":
			values = query[p.name]
			delete(query, p.name)
		case "header":
			values = e.request.Header.Values(p.name)
		}
		if !p.list && len(values) > 1 {
			return fmt.Errorf("%s was given twice", p.name)
		}
		if p.list && len(values) > 0 {
			all := make([]any, len(values))
			for i, v := range values {
				all[i] = v
			}
			if err := c.check(p.schema, all); err != nil {
				return fmt.Errorf("%s is %q: %w", p.name, values, err)
			}
		} else if len(values) == 1 && values[0] != "" {
			if err := c.checkText(p.schema, values[0]); err != nil {
				return fmt.Errorf("%s is %q: %w", p.name, values[0], err)
			}
		}
	}
	for name := range query {
		if !o.Docker { // an engine ignores others
			return fmt.Errorf("the contract has no query parameter %s", name)
		}
	}
	if len(o.request) == 0 {
		return nil
	}
	media := mediaOf(e.request.Header.Get("Content-Type"))
	schema, ok := o.request[media]
	if !ok {
		return fmt.Errorf("the request is %q, not %s", media, names(o.request))
	}
	if media != "application/json" {
		return nil
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.sent))
	if err != nil {
		return fmt.Errorf("the request is no JSON: %w", err)
	}
	return c.check(schema, withoutNull(v))
}

// withoutNull removes the fields that are null, which are as missing ones.
func withoutNull(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if v[name] = withoutNull(inner); inner == nil {
				delete(v, name)
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutNull(v[i])
		}
	}
	return v
}

// checkText compares a parameter or a header, which is text, with its schema: a number
// or a boolean is written as in JSON.
func (c *Contract) checkText(at, value string) error {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
	if err == nil {
		switch v.(type) {
		case json.Number, bool:
			if c.check(at, v) == nil {
				return nil
			}
		}
	}
	return c.check(at, value)
}

// readAnswer parses the bytes of an answer on a connection.
func (e *exchange) readAnswer(raw []byte) error {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), e.request)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	e.status, e.header = r.StatusCode, r.Header
	e.body, err = io.ReadAll(r.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		e.cut, err = true, nil
	}
	return err
}
