package creds_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nkeys"

	"github.com/towline/towline/puller/fleet/creds"
)

const seed = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"

const authority = `-----BEGIN CERTIFICATE-----
MIIBIzCByqADAgECAgEBMAoGCCqGSM49BAMCMAAwHhcNMjAwMTAxMDAwMDAwWhcN
-----END CERTIFICATE-----
`

func TestFormat(t *testing.T) {
	for name, want := range map[string]creds.Creds{
		"host":       {Fleet: "ci", Host: "runner-7", URLs: []string{"tls://10.0.0.5:4222", "tls://[::1]:4222"}, Seed: seed},
		"controller": {Fleet: "ci", Host: "runner-7", URLs: []string{"tls://a:4222"}, Controller: true, Seed: seed},
		"numbers":    {Fleet: "0", Host: "1e5", URLs: []string{"tls://a:4222"}, Seed: seed}, // YAML reads them as numbers
	} {
		t.Run(name, func(t *testing.T) {
			got, err := creds.Parse([]byte(creds.Format(want)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParse(t *testing.T) {
	const head = "fleet: ci\nhost: a\nurls: [tls://a:4222]\n"
	decorated := "-----BEGIN NATS USER JWT-----\neyJ0.eyJ1.sig\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n" + seed + "\n------END USER NKEY SEED------\n"
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	other, err := account.Seed()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ content, says string }{
		"seed":               {seed + "\n", ""},
		"nats":               {decorated, ""},
		"invitation":         {head + "seed: " + seed, ""},
		"empty":              {" \n", "it is empty"},
		"garbage":            {"\x00\x01garbage", "neither"},
		"html":               {"<html>", "neither"},
		"unknown field":      {head + "seed: " + seed + "\ntoken: x", "neither"},
		"no seed":            {head, "seed: missing"},
		"short seed":         {seed[:40], "seed: it is damaged"},
		"changed seed":       {head + "seed: " + strings.Replace(seed, "AIBD", "AIBE", 1), "seed: it is damaged"},
		"seed of an account": {string(other), "seed: it is not one of a user"},
		"nats without seed":  {decorated[:strings.Index(decorated, "-----BEGIN USER")], "USER NKEY SEED: missing"},
		"no fleet":           {"host: a\nurls: [tls://a]\nseed: " + seed, "fleet: "},
		"bad host":           {"fleet: ci\nhost: a.b\nurls: [tls://a]\nseed: " + seed, "host: "},
		"no urls":            {"fleet: ci\nhost: a\nseed: " + seed, "urls: missing"},
		"bad url":            {"fleet: ci\nhost: a\nurls: [\"http://a\"]\nseed: " + seed, "urls: "},
		"bad authority":      {head + "seed: " + seed + "\nca: x", "ca: "},
		"damaged authority":  {head + "seed: " + seed + "\nca: |\n  " + strings.ReplaceAll(authority, "\n", "\n  "), "ca: "},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := creds.Parse([]byte(c.content))
			switch {
			case c.says == "" && (err != nil || got.Seed != seed):
				t.Errorf("%+v, %v", got, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("the error is %v, want %q", err, c.says)
			case err != nil && strings.Contains(err.Error(), seed[:12]):
				t.Error("the error has a part of the secret")
			}
		})
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "creds")
	if err := os.WriteFile(path, []byte(seed), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := creds.Read(path); err != nil || c.Seed != seed {
		t.Error(c, err)
	}
	for mode, says := range map[os.FileMode]string{0o640: "", 0o644: "chmod o-rwx", 0o660: "chmod go-w"} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := creds.Read(path); says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("with mode %v: %v", mode, err)
		}
	}
}

func TestSign(t *testing.T) {
	c := creds.Creds{Seed: seed}
	public, err := c.Public()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := c.Sign([]byte("nonce"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.FromPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Verify([]byte("nonce"), signature); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(seed))
	f.Add([]byte(creds.Format(creds.Creds{Fleet: "ci", Host: "a", URLs: []string{"tls://a:4222"}, Seed: seed})))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := creds.Parse(content)
		if err != nil {
			return
		}
		if _, err := c.Public(); err != nil {
			t.Errorf("a seed that was accepted has no public key: %v", err)
		}
	})
}
