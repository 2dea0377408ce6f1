//go:build !unix

package auth

import "os"

func keepRights(*os.File, string) error { return nil }
