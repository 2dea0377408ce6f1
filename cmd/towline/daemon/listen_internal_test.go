package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/configs"
)

func TestPlainTCPWarning(t *testing.T) {
	for address, warned := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true, "[::1]:0": false} {
		said := &bytes.Buffer{}
		log := logrus.New()
		log.SetOutput(said)
		c := configs.Default()
		c.Listen, c.Auth.TokenFile = []string{"tcp://" + address}, "/some"
		all, err := listenAll(c, nil, log)
		if err != nil {
			t.Fatal(err)
		}
		closeAll(all)
		if strings.Contains(said.String(), "auth.tls.cert") != warned {
			t.Errorf("%s: it says %q", address, said)
		}
	}
}

func TestSocketGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		groups, err := os.Getgroups()
		if err != nil || len(groups) == 0 {
			t.Fatal("this user has no group", err)
		}
	}
	group := os.Getegid()
	if os.Geteuid() == 0 {
		group = 12345
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenUnix(path, fmt.Sprint(group))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 || int(info.Sys().(*syscall.Stat_t).Gid) != group {
		t.Errorf("the socket is %v of group %d, %v", info.Mode(), info.Sys().(*syscall.Stat_t).Gid, err)
	}
	if _, err := listenUnix(path+"2", "no-such-group"); err == nil || !strings.Contains(err.Error(), "socket_group") {
		t.Errorf("a group that is not there: %v", err)
	}
	if _, err := os.Stat(path + "2"); !os.IsNotExist(err) {
		t.Errorf("its socket is there: %v", err)
	}
}
