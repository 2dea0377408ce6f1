package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/towline/towline/api/compose"
	"github.com/towline/towline/cmd/towline/doctor"
	"github.com/towline/towline/cmd/towline/exit"
)

func TestLock(t *testing.T) {
	files := map[string]string{"compose.yaml": `
services:
  web: {image: "good.test/a:v1"}
  "yes": {image: "good.test/b:v1", platform: linux/amd64}
  own: {image: own, build: .}
`, "bad.yaml": "services:\n  x: {image: registry.test/nope:v1}\n  web: {image: good.test/a:v1}\n"}
	a, b := fmt.Sprintf("good.test/a:v1@sha256:%064x", 1), fmt.Sprintf("good.test/b:v1@sha256:%064x", 2)
	for args, output := range map[string]string{"": "compose.lock.yaml", "compose.yaml -o other.yaml": "other.yaml", "compose.yaml -q": "compose.lock.yaml"} {
		t.Run("args "+args, func(t *testing.T) {
			inDirectory(t, files)
			host, engine, _ := startDaemon(t)
			scriptAll(engine)
			code, out, errs, err := runApart(t.Context(), append([]string{"lock", "--host", host}, strings.Fields(args)...)...)
			if code != 0 || out != "" || strings.Contains(args, "-q") == strings.Contains(errs, output+" has the digests of 2 services") {
				t.Fatalf("%d, %v: %s%s", code, err, out, errs)
			}
			// As docker compose -f compose.yaml -f compose.lock.yaml reads them.
			p, err := compose.Load(t.Context(), compose.Source{Files: []string{"compose.yaml", output}, IgnoreBuildable: true})
			if err != nil || len(p.Requests) != 2 || p.Requests["web"].Image != a || p.Requests["yes"].Image != b || p.Requests["yes"].Platform != "linux/amd64" {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	t.Run("an image that is not there", func(t *testing.T) {
		inDirectory(t, files)
		host, engine, _ := startDaemon(t)
		scriptAll(engine)
		if code, _, _, err := runApart(t.Context(), "lock", "bad.yaml", "--host", host); code != exit.CodePermanent {
			t.Errorf("%d, %v", code, err)
		}
		if _, err := os.Stat("bad.lock.yaml"); err == nil {
			t.Error("the file is written all the same")
		}
		if left, _ := os.ReadDir("."); len(left) != len(files) {
			t.Errorf("there are %v", left)
		}
	})
	t.Run("standard output", func(t *testing.T) {
		inDirectory(t, files)
		host, engine, _ := startDaemon(t)
		scriptAll(engine)
		_, out, _, err := runApart(t.Context(), "lock", "-o", "-", "--host", host)
		checkWords(t, out, "services:\n", "image: "+a, "image: "+b)
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("no file", func(t *testing.T) {
		inDirectory(t, nil)
		if code, _, err := run(t.Context(), "lock"); code != exit.CodeUsage {
			t.Errorf("%d, %v", code, err)
		}
	})
}

func TestDoctor(t *testing.T) {
	host, _, _ := startDaemon(t)
	code, out, _, _ := runApart(t.Context(), "doctor", "127.0.0.1:1", "--json", "--host", host)
	var found []doctor.Finding
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != exit.CodeFailed || len(found) < 5 || found[0].State != doctor.OK || found[1].State != doctor.OK {
		t.Errorf("%d, %v: %s", code, err, out)
	}
	_, out, _, _ = runApart(t.Context(), "doctor", "127.0.0.1:1", "--host", host)
	checkWords(t, out, "ok       socket: ", "failed   registry 127.0.0.1:1: ", "to mend it: curl -v https://127.0.0.1:1/v2/")
}
