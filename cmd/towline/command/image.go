package command

import "github.com/towline/towline/puller"

// FullName returns an image's full form, and what the daemon will refuse as it is.
func FullName(image string) string {
	if full, _, err := puller.ParseImage(image); err == nil {
		return full
	}
	return image
}
