package transport

import (
	"fmt"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform returns os/arch[/variant] in the form of the API.
func Platform(platform string) *ocispec.Platform {
	parts := strings.SplitN(platform+"//", "/", 4)
	return &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// Time formats a time for the API.
func Time(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
