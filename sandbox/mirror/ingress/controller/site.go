package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
)

// Cluster is what the controller has to look up while it turns Ingresses into a Site.
type Cluster interface {
	Service(namespace, name string) (*core.Service, error)
	EndpointSlices(namespace, service string) ([]*discovery.EndpointSlice, error)
	TLSSecret(namespace, name string) (*core.Secret, error)
}

// Site is everything that nginx serves: plain data, ordered, ready to be rendered.
type Site struct {
	Servers        []Server
	Upstreams      []Upstream
	Pairs          []KeyPair
	ConnectTimeout string // nginx' own without it
}

// Server is one host name with its locations; Pair is empty where the host has no certificate.
type Server struct {
	Host      string
	Pair      string
	Locations []Location
}

// Location is one nginx location; an empty Upstream answers 502.
type Location struct {
	Match    string
	Upstream string
}

// Upstream is the group of ready endpoints behind one port of one Service.
type Upstream struct {
	Name      string
	Addresses []string
}

// KeyPair is a certificate and its private key, in PEM, stored under Name.
type KeyPair struct {
	Name      string
	Cert, Key []byte
}

// The API server already checks host names; nginx' syntax is checked here all the same, because a
// stray character in either would let an Ingress write directives of its own.
var (
	safeHost = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	safePath = regexp.MustCompile(`^/[A-Za-z0-9/._~!$&()*+,=:@%-]*$`)
)

// builder collects a Site; what an Ingress asks for and cannot have ends up in problems.
type builder struct {
	cluster   Cluster
	servers   map[string]*Server
	upstreams map[string]Upstream
	pairs     map[string]KeyPair
	problems  []string
}

// BuildSite merges Ingresses into one Site. Where two claim one host and path, the older one has it.
// The second result says, in words, what was left out and why.
func BuildSite(cluster Cluster, ingresses []*networking.Ingress) (Site, []string) {
	b := builder{cluster, map[string]*Server{}, map[string]Upstream{}, map[string]KeyPair{}, nil}
	ordered := slices.Clone(ingresses)
	slices.SortFunc(ordered, func(x, y *networking.Ingress) int {
		return cmp.Or(
			x.CreationTimestamp.Compare(y.CreationTimestamp.Time),
			strings.Compare(x.Namespace+"/"+x.Name, y.Namespace+"/"+y.Name),
		)
	})
	for _, ingress := range ordered {
		b.add(ingress)
	}
	return b.site(), b.problems
}

func (b *builder) problem(ingress *networking.Ingress, format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	b.problems = append(b.problems, fmt.Sprintf("ingress %s/%s: %s", ingress.Namespace, ingress.Name, said))
}

func (b *builder) add(ingress *networking.Ingress) {
	for _, rule := range ingress.Spec.Rules {
		if !safeHost.MatchString(rule.Host) {
			b.problem(ingress, "rule with host %q: a host name is needed", rule.Host)
			continue
		}
		server := b.server(rule.Host)
		if rule.HTTP != nil {
			for _, path := range rule.HTTP.Paths {
				b.addPath(ingress, server, path)
			}
		}
		if ingress.Spec.DefaultBackend != nil {
			b.locate(server, "/", b.upstream(ingress, *ingress.Spec.DefaultBackend))
		}
	}
	for _, tls := range ingress.Spec.TLS {
		b.addTLS(ingress, tls)
	}
}

func (b *builder) server(host string) *Server {
	if b.servers[host] == nil {
		b.servers[host] = &Server{Host: host}
	}
	return b.servers[host]
}

func (b *builder) addPath(ingress *networking.Ingress, server *Server, path networking.HTTPIngressPath) {
	target := cmp.Or(path.Path, "/")
	if !safePath.MatchString(target) {
		b.problem(ingress, "path %q: has characters that nginx would misread", target)
		return
	}
	kind := networking.PathTypeImplementationSpecific
	if path.PathType != nil {
		kind = *path.PathType
	}
	upstream := b.upstream(ingress, path.Backend)
	for _, match := range matches(kind, target) {
		b.locate(server, match, upstream)
	}
}

// matches spells an Ingress path in nginx' terms. Prefix goes by whole path elements: /a matches /a
// and /a/b but not /ab, which takes nginx two locations.
func matches(kind networking.PathType, path string) []string {
	switch kind {
	case networking.PathTypeExact:
		return []string{"= " + path}
	case networking.PathTypePrefix:
		bare := strings.TrimRight(path, "/")
		if bare == "" {
			return []string{"/"}
		}
		return []string{"= " + bare, bare + "/"}
	default:
		return []string{path}
	}
}

// locate adds a location unless the match is taken: nginx refuses one match twice.
func (b *builder) locate(server *Server, match, upstream string) {
	taken := func(l Location) bool { return l.Match == match }
	if !slices.ContainsFunc(server.Locations, taken) {
		server.Locations = append(server.Locations, Location{match, upstream})
	}
}

// upstream resolves a backend to the name of an Upstream, or to nothing if no endpoint is ready.
func (b *builder) upstream(ingress *networking.Ingress, backend networking.IngressBackend) string {
	if backend.Service == nil {
		b.problem(ingress, "a backend that is no Service cannot be served")
		return ""
	}
	name := backend.Service.Name
	service, err := b.cluster.Service(ingress.Namespace, name)
	if err != nil {
		b.problem(ingress, "backend: %v", err)
		return ""
	}
	port := servicePort(service, backend.Service.Port)
	if port == nil {
		b.problem(ingress, "service %s has no port %v", name, backend.Service.Port)
		return ""
	}
	slicesOf, err := b.cluster.EndpointSlices(ingress.Namespace, name)
	if err != nil {
		b.problem(ingress, "endpoints of service %s: %v", name, err)
		return ""
	}
	ready := readyAddresses(slicesOf, port.Name)
	if len(ready) == 0 {
		b.problem(ingress, "service %s has no ready endpoint", name)
		return ""
	}
	key := fmt.Sprintf("%s_%s_%d", ingress.Namespace, name, port.Port)
	b.upstreams[key] = Upstream{key, ready}
	return key
}

func servicePort(service *core.Service, wanted networking.ServiceBackendPort) *core.ServicePort {
	for i, port := range service.Spec.Ports {
		if (wanted.Name != "" && port.Name == wanted.Name) || (wanted.Name == "" && port.Port == wanted.Number) {
			return &service.Spec.Ports[i]
		}
	}
	return nil
}

// readyAddresses lists host:port of all ready endpoints, sorted, each once. A slice's port carries the
// name of the Service's port and the number the pod listens on.
func readyAddresses(endpoints []*discovery.EndpointSlice, portName string) []string {
	var found []string
	for _, slice := range endpoints {
		for _, port := range slice.Ports {
			if port.Port == nil || (port.Name != nil && *port.Name != portName) {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready != nil && !*endpoint.Conditions.Ready {
					continue
				}
				for _, address := range endpoint.Addresses {
					found = append(found, net.JoinHostPort(address, strconv.Itoa(int(*port.Port))))
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (b *builder) addTLS(ingress *networking.Ingress, tls networking.IngressTLS) {
	secret, err := b.cluster.TLSSecret(ingress.Namespace, tls.SecretName)
	if err != nil {
		b.problem(ingress, "tls: %v", err)
		return
	}
	pair, err := NewKeyPair(secret)
	if err != nil {
		b.problem(ingress, "tls: %v", err)
		return
	}
	for _, host := range tls.Hosts {
		if server := b.servers[host]; server != nil && server.Pair == "" {
			server.Pair = pair.Name
			b.pairs[pair.Name] = pair
		}
	}
}

// digest names files after their content, so that a running nginx never sees a half-changed pair.
func digest(parts ...[]byte) string {
	sum := sha256.New()
	for _, part := range parts {
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

func (b *builder) site() Site {
	var site Site
	for _, host := range sortedKeys(b.servers) {
		site.Servers = append(site.Servers, *b.servers[host])
	}
	for _, name := range sortedKeys(b.upstreams) {
		site.Upstreams = append(site.Upstreams, b.upstreams[name])
	}
	for _, name := range sortedKeys(b.pairs) {
		site.Pairs = append(site.Pairs, b.pairs[name])
	}
	return site
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
