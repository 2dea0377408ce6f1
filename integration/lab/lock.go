package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFile takes the lock of a file of this machine, which other processes of tests wait
// for: exclusive (LOCK_EX) or shared (LOCK_SH). A process that ends gives it back.
func lockFile(name string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lab: lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// addressesLock is the lock of the file that guards the machine's addresses.
const addressesLock = "towline-lab-addresses.lock"

// KeepAddresses has all processes wait that are to make or remove a [Network], until unlock
// is called. Chromium ends its requests (ERR_NETWORK_CHANGED) when the machine gets or loses
// an address.
func KeepAddresses() (unlock func(), err error) { return lockFile(addressesLock, syscall.LOCK_SH) }
