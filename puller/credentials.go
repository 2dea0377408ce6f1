package puller

import "github.com/towline/towline/puller/credentials"

// Credentials are what one call brings for a registry. They are kept in memory only for
// as long as the job runs, and never printed.
type Credentials = credentials.Credentials

// ParseCredentials is credentials.Parse. The error is ErrInvalidRequest.
func ParseCredentials(header string) (Credentials, error) {
	c, err := credentials.Parse(header)
	if err != nil {
		return Credentials{}, Errorf(ErrInvalidRequest, "%w", err)
	}
	return c, nil
}
