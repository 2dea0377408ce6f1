package rules

import (
	"strings"
	"testing"
)

func TestParseSetErrors(t *testing.T) {
	for want, w := range map[string]Written{
		`r.allow: "" is no pattern`:                                   {Allow: []string{""}},
		`r.deny: "alpine" does not begin with a registry`:             {Deny: []string{"alpine"}},
		`r.deny: "library/alpine" does not begin with a registry`:     {Deny: []string{"library/alpine"}},
		`r.deny: "docker.io/alpine" matches nothing`:                  {Deny: []string{"docker.io/alpine"}},
		`r.allow: "***" has a wildcard that does not exist`:           {Allow: []string{"***"}},
		`r.allow: "docker.io/***" has a wildcard that does not exist`: {Allow: []string{"docker.io/***"}},
		`r.allow: "a.test/x:***" has a wildcard`:                      {Allow: []string{"a.test/x:***"}},
		`r.allow: "a.test/-*" matches nothing`:                        {Allow: []string{"a.test/-*"}},
		`r.allow: "a.test/x.." matches nothing`:                       {Allow: []string{"a.test/x.."}},
		`r.deny: "a.test//x" matches nothing`:                         {Deny: []string{"a.test//x"}},
		`r.deny: "a.test/x:.*" matches nothing`:                       {Deny: []string{"a.test/x:.*"}},
		`r.deny: "a.test/x:-v" matches nothing`:                       {Deny: []string{"a.test/x:-v"}},
		`r.deny: "index.docker.io/*" matches nothing`:                 {Deny: []string{"index.docker.io/*"}},
		`r.deny: "docker.io/Library/x" has capital letters`:           {Deny: []string{"docker.io/Library/x"}},
		`r.deny: "dоcker.io/library/x" is no pattern`:                 {Deny: []string{"dоcker.io/library/x"}},
		`r.allow: "docker.io/library/[a-z]" is no pattern`:            {Allow: []string{"docker.io/library/[a-z]"}},
		`r.allow: "docker.io/library/x " is no pattern`:               {Allow: []string{"docker.io/library/x "}},
		`r.allow: "registry.example.com/" is no pattern`:              {Allow: []string{"registry.example.com/"}},
		`r.allow: "registry.example.com" does not begin with a`:       {Allow: []string{"registry.example.com"}},
		`r.policies: policy: "sometimes" is not known`:                {Policies: []string{"sometimes"}},
		`r.platforms: "linux" is not known; write os/arch[/variant]`:  {Platforms: []string{"linux"}},
	} {
		if _, err := ParseSet("r", w); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

func TestParseSetAccepts(t *testing.T) {
	for _, p := range []string{
		"**", "**:latest", "docker.io/**", "docker.io/library/a-*", "*.example.com:*/x", "*/x", "[::1]:5000/a", "a.test/**/x", "a.test/x@sha256:*", "a.test/x:?", "a.test/x:v*", "a.test/?", "a.test/a__*",
		"a.test/**b", "a.test/x:*-alpine", "localhost/x",
	} {
		if _, err := ParseSet("r", Written{Allow: []string{p}}); err != nil {
			t.Error(err)
		}
	}
}
