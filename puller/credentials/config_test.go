package credentials_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller/credentials"
)

func encode(text string) string { return base64.URLEncoding.EncodeToString([]byte(text)) }

func TestParseConfig(t *testing.T) {
	all, err := credentials.ParseConfig(encode(`{"b.test:443":{"username":"ben","password":"x"},"https://index.docker.io/v1/":{"identitytoken":"t"},"none.test":{},"a.test":{"auth":"YTpi"}}`))
	if err != nil {
		t.Fatal(err)
	}
	var registries []string
	for _, c := range all {
		registries = append(registries, c.Registry())
	}
	if got := strings.Join(registries, " "); got != "a.test b.test docker.io" {
		t.Errorf("they are for %s", got)
	}
	again, err := credentials.ParseConfig(credentials.Config(all))
	if err != nil || fmt.Sprint(again[0].Header(), again[1].Header(), again[2].Header()) != fmt.Sprint(all[0].Header(), all[1].Header(), all[2].Header()) {
		t.Errorf("written and read again they are %v, %v", again, err)
	}
	if all, err := credentials.ParseConfig(""); all != nil || err != nil || credentials.Config(nil) != "" || credentials.Config([]credentials.Credentials{{}}) != "" {
		t.Errorf("no header is %v, %v", all, err)
	}
}

func TestParseConfigInvalid(t *testing.T) {
	const secret = "hunter2"
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf(`"r%d.test":{"username":"a","password":"b"}`, i)
	}
	for header, want := range map[string]string{
		"%%%":                                 "not base64url",
		encode(secret):                        "not a JSON object of objects",
		encode(`["` + secret + `"]`):          "not a JSON object of objects",
		encode(`{"a.test":"` + secret + `"}`): "not a JSON object of objects",
		encode(`{"a.test":{"password":"` + secret + `"}}`):                                                                `the login of "a.test": a password without a username`,
		encode(`{"":{"username":"a","password":"hunter2"}}`):                                                              "without the address of a registry",
		encode(`{"a b":{"username":"a","password":"hunter2"}}`):                                                           `the login of "a b": its serveraddress`,
		encode(`{"a.test":{"username":"a","password":"hunter2"},"https://A.test":{"username":"a","password":"hunter2"}}`): "the registry a.test is named twice",
		encode("{" + strings.Join(many, ",") + "}"):                                                                       "101 registries; it has at most 100",
		strings.Repeat("A", 64<<10+1):                                                                                     "longer than 64 KiB",
		encode(`{"a.test":{"username":"a","password":"` + strings.Repeat("x", 17<<10) + `"}}`):                            "longer than 16 KiB",
	} {
		all, err := credentials.ParseConfig(header)
		if all != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "X-Registry-Config: ") || strings.Contains(err.Error(), secret) {
			t.Errorf("%.60s: %v, want %s", header, err, want)
		}
	}
}

func TestSelect(t *testing.T) {
	all, err := credentials.ParseConfig(encode(`{"a.test":{"username":"a","password":"x"},"b.test":{"username":"b","password":"x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	rest, err := credentials.Parse(encode(`{"username":"rest","password":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]credentials.Credentials{"a.test/x": all[0], "B.test:443/x": all[1], "c.test/x": rest, "alpine": rest} {
		named, err := reference.ParseDockerRef(image)
		if err != nil {
			t.Fatal(err)
		}
		if credentials.Select(all, rest, named) != want {
			t.Errorf("%s gets others", image)
		}
	}
}
