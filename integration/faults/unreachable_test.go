package faults_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"testing"

	"github.com/towline/towline/integration/lab"
)

// TestMirrorUnreachable is an engine in another network namespace, as one in a virtual machine
// is: loopback is another one there. The image comes, and the reason is told.
func TestMirrorUnreachable(t *testing.T) {
	t.Parallel()
	lab.Need(t, site.err)
	network, err := lab.StartNetwork(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	dir, err := os.MkdirTemp(site.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := lab.Private(t.Context(), dir+"/e", lab.PrivateOptions{Namespace: network.Hosts[0].Namespace, Flags: []string{"--insecure-registry=" + network.Range}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	r := newRigIn(t, engine, dir, lab.TowlineOptions{Config: accelerated, Env: []string{"TOWLINE_REGISTRIES_ALLOW_PRIVATE=127.0.0.0/8," + network.Range}})
	r.idle = 24
	l, err := net.Listen("tcp", network.Address+":0")
	if err != nil {
		t.Fatal(err)
	}
	// Both reach the registry here.
	server := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: r.registry.Addr()})
	}}}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	image := r.push("unreachable", 1, 5<<20)
	image.ref = fmt.Sprintf("%s/%s:v1", l.Addr(), image.repo)
	r.unaccelerated(r.succeeds(r.submit(image.ref, 0).ID, image), "the engine can't pull from 127.0.0.1:")
	r.unnamed()
}
