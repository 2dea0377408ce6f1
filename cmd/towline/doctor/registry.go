package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// registries says whether this machine reaches the registries, and compares its clock
// with theirs.
func (o Options) registries(ctx context.Context) (found []Finding) {
	clock := Finding{Check: "clock", State: Warning, Detail: "no registry has told the time", Fix: "timedatectl"}
	for _, registry := range o.Registries {
		f, date := o.registry(ctx, registry)
		found = append(found, f)
		if date.IsZero() {
			continue
		}
		skew := o.Now().Sub(date).Round(time.Second)
		clock = Finding{Check: "clock", State: OK, Detail: fmt.Sprintf("it differs by %s from that of %s", skew.Abs(), registry)}
		if skew.Abs() > mostSkew {
			clock.State, clock.Fix = Failed, "timedatectl set-ntp true; certificates and tokens are not accepted with a wrong clock"
		}
	}
	return append(found, clock)
}

// registry calls a registry's base route, which answers 200 or 401 (OCI Distribution
// Specification, "Determining Support").
func (o Options) registry(ctx context.Context, registry string) (Finding, time.Time) {
	ctx, cancel := context.WithTimeout(ctx, registryLimit)
	defer cancel()
	host := registry
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	url := "https://" + host + "/v2/"
	f := Finding{Check: "registry " + registry, State: OK}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if port := ""; err == nil {
		port = req.URL.Port()
		if _, fault := strconv.ParseUint(port, 10, 16); host == "" || req.URL.Host != host || port != "" && fault != nil {
			err = errors.New("no host and port")
		}
	}
	if err != nil {
		f.State, f.Detail, f.Fix = Failed, fmt.Sprintf("%q is no registry", registry), "write its host, such as registry.example.com or registry.example.com:5000"
		return f, time.Time{}
	}
	resp, err := o.HTTP.Do(req)
	switch ip := net.ParseIP(req.URL.Hostname()); {
	case errors.Is(err, http.ErrSchemeMismatch) && (req.URL.Hostname() == "localhost" || ip.IsLoopback()):
		f.Detail = "it answers over plain HTTP, which engines take from loopback addresses"
		return f, time.Time{}
	case errors.Is(err, http.ErrSchemeMismatch):
		f.State, f.Detail, f.Fix = Warning, "it answers over plain HTTP only", "add it to insecure-registries in /etc/docker/daemon.json, and then systemctl restart docker"
		return f, time.Time{}
	case err != nil:
		f.State, f.Detail, f.Fix = Failed, err.Error(), "curl -v "+url+"; check DNS, HTTPS_PROXY and the firewall of this host"
		return f, time.Time{}
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // for the connection's sake
	date, _ := http.ParseTime(resp.Header.Get("Date"))     // zero where it is not told
	f.Detail = fmt.Sprintf("it answers with status %d", resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusUnauthorized:
	case http.StatusTooManyRequests:
		f.State, f.Fix = Warning, "wait, or log in: docker login "+registry
	default:
		f.State, f.Fix = Failed, "curl -v "+url+"; the address may be that of something else"
	}
	return f, date
}
