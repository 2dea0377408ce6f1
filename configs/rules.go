package configs

import "github.com/towline/towline/puller/rules"

// Rules say which images may be asked for. Pull's hold for all, Run's for runs
// besides. Each caller may have more of them in the token file.
type Rules struct {
	Pull rules.Written `mapstructure:"pull"`
	Run  rules.Written `mapstructure:"run"`
}

// Registries says which of them may be called, and with what.
type Registries struct {
	// AllowPrivate are the hosts, addresses and prefixes in private networks
	// that Towline itself may call.
	AllowPrivate []string `mapstructure:"allow_private"`
	// Insecure are the hosts, addresses and prefixes of registries that may be
	// called over plain HTTP, or TLS that nobody vouches for, beside the engine's.
	Insecure []string `mapstructure:"insecure"`
	// Certificates is where Docker's certs.d is.
	Certificates string `mapstructure:"certificates" default:"/etc/docker/certs.d"`
	// DockerConfig has credentials taken from Docker's config.json too.
	DockerConfig bool `mapstructure:"docker_config" default:"true"`
	// Credentials can't be set by the environment.
	Credentials []Credentials `mapstructure:"credentials"`
}

// Credentials are what Towline itself shows to a registry.
type Credentials struct {
	Registry     string `mapstructure:"registry"`
	Username     string `mapstructure:"username"`
	PasswordFile string `mapstructure:"password_file"`
}
