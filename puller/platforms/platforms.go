// Package platforms reads the platforms of requests as engines do. It is apart from names,
// which every client of Towline is built with, because containerd's parser brings a log
// and the OCI types with it.
package platforms

import (
	"errors"
	"slices"
	"strings"

	containerd "github.com/containerd/platforms"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// maxLength bounds what is parsed, in bytes.
const maxLength = 64

var errUnknown = errors.New("is not known; write os/arch[/variant], such as linux/amd64 or linux/arm64/v8")

// Parse returns a platform in the form that the API answers with: in lower case, and with
// the names that Go has for systems and architectures, so that "Linux/x86_64" is
// linux/amd64 (containerd's platforms.Parse, which engines read platforms with). "linux"
// alone takes its architecture from own, and "amd64" alone its system; own is os/arch, ""
// where it is not known. The error is ErrInvalidRequest and names the platform field.
func Parse(text, own string) (string, error) {
	whole := text
	if system, arch, _ := strings.Cut(own, "/"); !strings.Contains(text, "/") && len(text) <= maxLength {
		if p, err := containerd.Parse(text + "/" + arch); err == nil && names.IsOS(p.OS) {
			whole = text + "/" + arch
		} else {
			whole = system + "/" + text
		}
	}
	if len(whole) <= maxLength {
		p, err := containerd.Parse(whole)
		variants, known := names.Variants(p.Architecture)
		if err == nil && known && names.IsOS(p.OS) && p.OSVersion == "" && (p.Variant == "" || slices.Contains(variants, p.Variant)) {
			return containerd.Format(p), nil
		}
	}
	return "", puller.Errorf(puller.ErrInvalidRequest, "platform: %q %w", puller.Clip(text), errUnknown)
}
