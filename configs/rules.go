package configs

import "github.com/towline/towline/puller/rules"

// Rules say which images may be requested. Pull applies to all jobs, Run to runs in
// addition. The token file may have more rules for a caller.
type Rules struct {
	Pull rules.Written `mapstructure:"pull"`
	Run  rules.Written `mapstructure:"run"`
}

// Registries says which registries may be called, and with which credentials.
type Registries struct {
	// AllowPrivate are the hosts, addresses and prefixes in private networks
	// that Towline itself may call.
	AllowPrivate []string `mapstructure:"allow_private"`
	// Insecure are the hosts, addresses and prefixes of registries that may be
	// called over plain HTTP, or over TLS without a verified certificate. The
	// insecure registries of the engine are added to them.
	Insecure []string `mapstructure:"insecure"`
	// Certificates is the path of Docker's directory certs.d.
	Certificates string `mapstructure:"certificates" default:"/etc/docker/certs.d"`
	// DockerConfig also takes credentials from Docker's config.json.
	DockerConfig bool `mapstructure:"docker_config" default:"true"`
	// Credentials have no environment variable.
	Credentials []Credentials `mapstructure:"credentials"`
}

// Credentials are what Towline sends to a registry if a request has none.
type Credentials struct {
	Registry     string `mapstructure:"registry"`
	Username     string `mapstructure:"username"`
	PasswordFile string `mapstructure:"password_file"`
}
