package lab

import (
	"reflect"
	"unsafe"

	"github.com/distribution/distribution/v3/registry/handlers"
)

// closeEvents ends the goroutine that a registry's App starts for its notifications
// and that its Shutdown (v3.1.2) leaves running. The field is not exported and nothing
// else reaches it. Where a later version has no such field, this does nothing.
func closeEvents(app *handlers.App) error {
	field := reflect.ValueOf(app).Elem().FieldByName("events")
	if field.Kind() != reflect.Struct {
		return nil
	}
	sink := field.FieldByName("sink")
	if !sink.IsValid() || !sink.CanAddr() {
		return nil
	}
	value := reflect.NewAt(sink.Type(), unsafe.Pointer(sink.UnsafeAddr())).Elem().Interface()
	if closer, ok := value.(interface{ Close() error }); ok {
		return closer.Close()
	}
	return nil
}
