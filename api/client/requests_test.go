package client_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/keep"
)

// requests are the client's requests, and what the daemon reads of each.
var requests = []struct {
	sent, read any
	of         any // a function from read to sent, or nil
}{
	{client.PullRequest{}, puller.PullRequest{}, client.PullOf},
	{client.RunRequest{}, puller.RunRequest{}, nil},
	{client.PrewarmRequest{}, puller.PrewarmRequest{}, client.PrewarmOf},
	{client.SetRequest{}, keep.SetRequest{}, client.SetOf},
	{client.LeaseRequest{}, keep.LeaseRequest{}, nil},
	{client.FleetSetRequest{}, fleet.SetRequest{}, client.FleetSetOf},
	{client.InviteRequest{}, fleet.InviteRequest{}, nil},
}

// headers are the fields that are sent as headers. All others are in the JSON.
var headers = []string{"Credentials", "Logins", "IdempotencyKey", "TraceParent"}

// A request has each field that the daemon reads from JSON or headers, and none that only the
// daemon sets.
func TestRequestFields(t *testing.T) {
	for _, r := range requests {
		sent, read := reflect.TypeOf(r.sent), reflect.TypeOf(r.read)
		var got, want []string
		for _, f := range reflect.VisibleFields(sent) {
			if f.Anonymous || !f.IsExported() {
				t.Errorf("%s has the part %s", sent, f.Name)
			}
			got = append(got, f.Name+" "+f.Tag.Get("json"))
		}
		for i := range read.NumField() {
			f := read.Field(i)
			if tag := f.Tag.Get("json"); tag != "-" || slices.Contains(headers, f.Name) {
				want = append(want, f.Name+" "+tag)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s against %s (-want +got):\n%s", sent, read, diff)
		}
	}
}

// A request that is made of another one says the same.
func TestRequestOf(t *testing.T) {
	for _, r := range requests {
		if r.of == nil {
			continue
		}
		read := reflect.New(reflect.TypeOf(r.read)).Elem()
		fill(read, credentials(t))
		sent := reflect.ValueOf(r.of).Call([]reflect.Value{read})[0]
		want, got := text(t, read.Interface()), text(t, sent.Interface())
		if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(want, `"filled"`) {
			t.Errorf("%s (-want +got):\n%s", sent.Type(), diff)
		}
		for _, name := range headers {
			if f := sent.FieldByName(name); f.IsValid() && f.IsZero() {
				t.Errorf("%s: %s is lost", sent.Type(), name)
			}
		}
	}
}

// fill gives a value to each field of a struct that is in JSON or headers.
func fill(v reflect.Value, auth puller.Credentials) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeOf(auth) {
			v.Set(reflect.ValueOf(auth))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), auth)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), auth)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), auth)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("filled"), reflect.ValueOf("filled"))
	case reflect.String:
		v.SetString("filled")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1_000_000_000)
	}
}

func text(t *testing.T, request any) string {
	t.Helper()
	raw, err := json.MarshalIndent(request, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
