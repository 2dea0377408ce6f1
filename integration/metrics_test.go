package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/towline/towline/api/client"
	"github.com/towline/towline/integration/lab"
)

// scrape returns the metrics of a daemon.
func scrape(t *testing.T, d *lab.Towline) []byte {
	t.Helper()
	resp, err := d.Do(t.Context(), http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", resp.Status, err, all)
	}
	return all
}

// check runs promtool on a text.
func check(t *testing.T, promtool string, stdin []byte, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), promtool, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Prometheus' own tool finds nothing wrong with the metrics, the rules, and the queries of
// the dashboard. They name only metrics that there are.
func TestMetrics(t *testing.T) {
	ref, _ := push(t, "metrics", 2, 1<<20)
	d, c := daemon(t)
	fresh := scrape(t, d)
	if _, err := c.Pull(t.Context(), client.PullRequest{Image: ref}); err != nil {
		t.Fatal(err)
	}
	metrics := scrape(t, d)
	promtool := lab.NeedPromtool(t)

	names := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(string(metrics), -1) {
		names[m[1]] = true
		if !bytes.Contains(fresh, []byte(m[0]+"\n")) {
			t.Errorf("%s is not there from the start", m[1])
		}
		if m[2] == "histogram" {
			names[m[1]+"_bucket"], names[m[1]+"_sum"], names[m[1]+"_count"] = true, true, true
		}
	}
	known := func(t *testing.T, query string) {
		t.Helper()
		used := regexp.MustCompile(`\b(towline|process|go)_[a-z_]+`).FindAllString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(query, `""`), -1)
		if len(used) == 0 && !strings.Contains(query, "towline:") && !strings.Contains(query, "up{") {
			t.Errorf("%s names no metric", query)
		}
		for _, name := range used {
			if !names[name] {
				t.Errorf("%s: there is no metric %s", query, name)
			}
		}
	}
	t.Run("names", func(t *testing.T) { check(t, promtool, metrics, "check", "metrics") })
	t.Run("rules", func(t *testing.T) {
		const file = "../configs/prometheus/towline.rules.yml"
		check(t, promtool, nil, "check", "rules", file)
		check(t, promtool, nil, "test", "rules", "testdata/towline.rules.test.yml")
		var rules struct {
			Groups []struct {
				Rules []struct{ Expr, Alert string }
			}
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(raw, &rules); err != nil {
			t.Fatal(err)
		}
		tests, err := os.ReadFile("testdata/towline.rules.test.yml")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules.Groups[0].Rules {
			known(t, r.Expr)
			if r.Alert != "" && bytes.Count(tests, []byte("alertname: "+r.Alert)) != 2 {
				t.Errorf("%s has no test for both outcomes", r.Alert)
			}
		}
	})
	t.Run("dashboard", func(t *testing.T) {
		raw, err := os.ReadFile("../configs/grafana/towline.json")
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				ID      int
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(raw, &board); err != nil {
			t.Fatal(err)
		}
		fill := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$job", "towline", "$instance", ".*")
		rules, ids := "groups:\n- name: dashboard\n  rules:\n", []int{}
		for _, p := range board.Panels {
			if slices.Contains(ids, p.ID) || len(p.Targets) == 0 {
				t.Errorf("the panel %s has no query, or the ID of another one", p.Title)
			}
			ids = append(ids, p.ID)
			for i, target := range p.Targets {
				query := fill.Replace(target.Expr)
				known(t, query)
				rules += fmt.Sprintf("  - record: dashboard:panel%d:query%d\n    expr: %q\n", p.ID, i, query)
			}
		}
		file := filepath.Join(t.TempDir(), "dashboard.rules.yml")
		if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, promtool, nil, "check", "rules", file)
	})
}
