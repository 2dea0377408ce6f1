package puller

import (
	"strings"

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

// wholePlatform returns the platform of a request in the API's form.
func (o Defaults) wholePlatform(platform string) (string, error) {
	own := ""
	if _, err := ParsePlatform(platform, "linux/amd64"); err != nil {
		return "", err
	} else if !strings.Contains(platform, "/") {
		if own, err = o.OwnPlatform(); err != nil {
			return "", err
		}
	}
	return ParsePlatform(platform, own)
}
