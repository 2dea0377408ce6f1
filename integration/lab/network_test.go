package lab

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestNetwork(t *testing.T) {
	if os.Geteuid() != 0 {
		Need(t, os.ErrPermission)
	}
	n, err := StartNetwork(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	listener, err := net.Listen("tcp", n.Address+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	reach := func(h *NetworkHost) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		// bash connects by itself.
		cmd := exec.CommandContext(ctx, "/bin/bash", "-c", "exec 3<>/dev/tcp/"+n.Address+"/"+port)
		within(h.Namespace, cmd)
		return cmd.Run()
	}
	for i, h := range n.Hosts {
		if err := reach(h); err != nil {
			t.Errorf("host %d: %v", i, err)
		}
	}
	if err := n.Hosts[0].Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reach(n.Hosts[0]) == nil {
		t.Error("a host without a link reaches this process")
	}
	if err := reach(n.Hosts[1]); err != nil {
		t.Error(err)
	}
	if err := n.Hosts[0].Mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Poll(ctx, 100*time.Millisecond, func(context.Context) error { return reach(n.Hosts[0]) }); err != nil {
		t.Error(err)
	}
	if err := n.Hosts[1].Limit(t.Context(), 50<<20); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if strings.HasPrefix(l.Name(), strings.TrimSuffix(n.bridge, "b")) {
			t.Error(l.Name(), "is left")
		}
	}
}
