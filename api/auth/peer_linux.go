package auth

import (
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// peer returns the user at the other end of a unix socket (unix(7),
// SO_PEERCRED), "" if the kernel does not know it.
func peer(socket *net.UnixConn) string {
	raw, err := socket.SyscallConn()
	if err != nil {
		return ""
	}
	name := ""
	raw.Control(func(fd uintptr) {
		if user, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			name = "uid:" + strconv.FormatUint(uint64(user.Uid), 10)
		}
	})
	return name
}
