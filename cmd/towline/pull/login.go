package pull

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/towline/towline/cmd/towline/command"
	"github.com/towline/towline/cmd/towline/exit"
	"github.com/towline/towline/cmd/towline/render"
	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/registry/login"
)

func credentialsFlag(f *command.Flags, cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.NoCredentials, "no-credentials", false, "do not send your Docker logins for the registries of the images")
}

// logins returns the caller's own logins for the registries of images, as Docker's
// command line finds them, and for no others. An image of a registry without a login has
// none. What can't be read is told, and does not stop the command.
func logins(ctx context.Context, f *command.Flags, images []string, errs io.Writer) exit.Logins {
	if f.NoCredentials {
		return exit.Logins{None: "--no-credentials"}
	}
	own, err := login.New(nil, true)
	if err != nil {
		return exit.Logins{}
	}
	var all []puller.Credentials
	asked := make(map[string]bool)
	for _, image := range images {
		_, named, err := puller.ParseImage(image)
		if err != nil || named == nil { // the daemon refuses it, or it is an ID
			continue
		}
		registry := names.RegistryOf(named.String())
		if asked[registry] {
			continue
		}
		asked[registry] = true
		found, err := own.Credentials(ctx, named.String())
		if err != nil {
			fmt.Fprintln(errs, "towline: "+render.SafeText(fmt.Sprintf("your login for %s can't be read, and none is sent: %v", registry, puller.Inner(err))))
		}
		if found != (puller.Credentials{}) {
			all = append(all, found)
		}
	}
	if len(all) > 0 && inClear(f) {
		fmt.Fprintln(errs, "towline: your Docker logins are not sent, because "+f.Host+" is plain HTTP; use https://, or --no-credentials")
		return exit.Logins{None: "the plain HTTP of " + f.Host}
	}
	return exit.Logins{Sent: all}
}

// inClear reports whether others on the network can read what is sent to the daemon.
func inClear(f *command.Flags) bool {
	u, err := url.Parse(f.Host)
	if err != nil || u.Scheme != "http" {
		return false
	}
	address := net.ParseIP(u.Hostname())
	return u.Hostname() != "localhost" && (address == nil || !address.IsLoopback())
}

// credentialsOf returns the one of several logins that is for an image.
func credentialsOf(logins []puller.Credentials, image string) puller.Credentials {
	_, named, err := puller.ParseImage(image)
	if err != nil || named == nil {
		return puller.Credentials{}
	}
	for _, c := range logins {
		if own := c.For(named); own != (puller.Credentials{}) {
			return own
		}
	}
	return puller.Credentials{}
}
