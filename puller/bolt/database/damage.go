package database

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"
)

var errDamage = errors.New("the file is damaged")

// Damagef returns an error of damage.
func Damagef(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDamage, fmt.Errorf(format, args...))
}

// IsDamage tells damage from errors that may pass: a full disk, a disk that does
// not answer, no memory.
func IsDamage(err error) bool {
	for _, damage := range []error{
		errDamage, bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch,
		bolterrors.ErrIncompatibleValue, bolterrors.ErrBucketNotFound,
	} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return false
}

// IsFull reports whether an error says that the disk, or the user's share of it, is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// guard calls code that uses bbolt. bbolt panics on pages that make no sense. It
// also maps the file: if a page of it was cut off or can't be read, the kernel
// sends SIGBUS. guard turns both into damage.
func guard(use func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = Damagef("%v", p)
		}
	}()
	return use()
}
