package puller

import (
	"github.com/towline/towline/puller/names"
)

// ParsePlatform is names.ParsePlatform. The error is ErrInvalidRequest and names the
// platform field.
func ParsePlatform(platform, own string) (string, error) {
	whole, err := names.ParsePlatform(platform, own)
	if err != nil {
		return "", Errorf(ErrInvalidRequest, "platform: %q %w", Clip(platform), err)
	}
	return whole, nil
}
