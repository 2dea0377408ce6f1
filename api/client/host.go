package client

import (
	"os"
	"path/filepath"
)

// systemSocket is where the daemon of the system listens.
const systemSocket = "/run/towline/towline.sock"

// Host returns the address of the daemon that this user calls by default: TOWLINE_HOST, or
// the socket of the user's own daemon if there is one, or that of the system.
func Host() string {
	if host := os.Getenv("TOWLINE_HOST"); host != "" {
		return host
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		if own := filepath.Join(dir, "towline", "towline.sock"); exists(own) {
			return "unix://" + own
		}
	}
	return "unix://" + systemSocket
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
