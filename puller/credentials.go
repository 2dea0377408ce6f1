package puller

import "github.com/towline/towline/puller/credentials"

// Credentials are what one call brings for a registry. They are kept in memory only for
// as long as the job runs, and never printed.
type Credentials = credentials.Credentials

// ParseCredentialsConfig is credentials.ParseConfig. The error is ErrInvalidRequest.
func ParseCredentialsConfig(header string) ([]Credentials, error) {
	all, err := credentials.ParseConfig(header)
	if err != nil {
		return nil, Errorf(ErrInvalidRequest, "%w", err)
	}
	return all, nil
}

// ParseCredentials is credentials.Parse. The error is ErrInvalidRequest.
func ParseCredentials(header string) (Credentials, error) {
	c, err := credentials.Parse(header)
	if err != nil {
		return Credentials{}, Errorf(ErrInvalidRequest, "%w", err)
	}
	return c, nil
}
