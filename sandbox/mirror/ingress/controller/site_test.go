package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cluster holds one namespace's objects by name.
type cluster struct {
	services map[string]*core.Service
	slices   map[string][]*discovery.EndpointSlice
	secrets  map[string]*core.Secret
}

func (c cluster) Service(_, name string) (*core.Service, error) {
	if found := c.services[name]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("service %q not found", name)
}

func (c cluster) EndpointSlices(_, service string) ([]*discovery.EndpointSlice, error) {
	return c.slices[service], nil
}

func (c cluster) TLSSecret(_, name string) (*core.Secret, error) {
	if found := c.secrets[name]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("secret %q not found", name)
}

func ptr[T any](value T) *T { return &value }

// hello is a Service on port 80, named http, with ready pods on 8080, one that is not, and one that serves
// on after it was told to end.
func hello() cluster {
	slice := &discovery.EndpointSlice{
		Ports: []discovery.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080))}},
		Endpoints: []discovery.Endpoint{
			{Addresses: []string{"10.244.1.3"}},
			{Addresses: []string{"10.244.1.2"}, Conditions: discovery.EndpointConditions{Ready: ptr(true)}},
			{Addresses: []string{"10.244.1.9"}, Conditions: discovery.EndpointConditions{Ready: ptr(false)}},
			{Addresses: []string{"10.244.1.8"}, Conditions: discovery.EndpointConditions{
				Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true),
			}},
			{Addresses: []string{"fd00::5"}},
		},
	}
	service := &core.Service{Spec: core.ServiceSpec{Ports: []core.ServicePort{{Name: "http", Port: 80}}}}
	pair, _ := SelfSigned()
	return cluster{
		services: map[string]*core.Service{"hello": service, "idle": service},
		slices:   map[string][]*discovery.EndpointSlice{"hello": {slice, slice}},
		secrets: map[string]*core.Secret{
			"good": {
				ObjectMeta: meta.ObjectMeta{Namespace: "apps", Name: "good"},
				Data:       map[string][]byte{core.TLSCertKey: pair.Cert, core.TLSPrivateKeyKey: pair.Key},
			},
			"bad": {ObjectMeta: meta.ObjectMeta{Namespace: "apps", Name: "bad"}},
		},
	}
}

func ingress(name, host string, age time.Duration, paths ...networking.HTTPIngressPath) *networking.Ingress {
	return &networking.Ingress{
		ObjectMeta: meta.ObjectMeta{
			Namespace: "apps", Name: name,
			CreationTimestamp: meta.NewTime(time.Unix(1_800_000_000, 0).Add(-age)),
		},
		Spec: networking.IngressSpec{Rules: []networking.IngressRule{{
			Host:             host,
			IngressRuleValue: networking.IngressRuleValue{HTTP: &networking.HTTPIngressRuleValue{Paths: paths}},
		}}},
	}
}

func path(kind networking.PathType, path, service string) networking.HTTPIngressPath {
	return networking.HTTPIngressPath{Path: path, PathType: &kind, Backend: backend(service, networking.ServiceBackendPort{Number: 80})}
}

func backend(service string, port networking.ServiceBackendPort) networking.IngressBackend {
	return networking.IngressBackend{Service: &networking.IngressServiceBackend{Name: service, Port: port}}
}

func TestEndpointsAreTheReadyOnesOnThePodsPort(t *testing.T) {
	site, problems := BuildSite(hello(), []*networking.Ingress{
		ingress("a", "hello.test", 0, path(networking.PathTypePrefix, "/", "hello")),
	})
	want := []string{"10.244.1.2:8080", "10.244.1.3:8080", "[fd00::5]:8080"}
	if len(problems) > 0 || len(site.Upstreams) != 1 || !slices.Equal(site.Upstreams[0].Addresses, want) {
		t.Fatalf("%v %v", site.Upstreams, problems)
	}
}

func TestPortByName(t *testing.T) {
	entry := path(networking.PathTypePrefix, "/", "hello")
	entry.Backend = backend("hello", networking.ServiceBackendPort{Name: "http"})
	site, problems := BuildSite(hello(), []*networking.Ingress{ingress("a", "hello.test", 0, entry)})
	if len(problems) > 0 || site.Upstreams[0].Name != "apps_hello_80" {
		t.Fatalf("%v %v", site, problems)
	}
}

func TestPathKinds(t *testing.T) {
	for _, c := range []struct {
		kind networking.PathType
		path string
		want []string
	}{
		{networking.PathTypePrefix, "/", []string{"/"}},
		{networking.PathTypePrefix, "/a", []string{"= /a", "/a/"}},
		{networking.PathTypePrefix, "/a/", []string{"= /a", "/a/"}},
		{networking.PathTypeExact, "/a", []string{"= /a"}},
		{networking.PathTypeImplementationSpecific, "/a", []string{"/a"}},
	} {
		if got := matches(c.kind, c.path); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %v, want %v", c.kind, c.path, got, c.want)
		}
	}
}

func TestTheOlderIngressKeepsAPath(t *testing.T) {
	site, _ := BuildSite(hello(), []*networking.Ingress{
		ingress("young", "hello.test", 0, path(networking.PathTypePrefix, "/", "idle")),
		ingress("old", "hello.test", time.Hour, path(networking.PathTypePrefix, "/", "hello")),
	})
	if got := site.Servers[0].Locations; len(got) != 1 || got[0].Upstream != "apps_hello_80" {
		t.Fatalf("%v", got)
	}
}

func TestWhatCannotBeServedIsSaidAndLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		given *networking.Ingress
		said  string
	}{
		"no host":     {ingress("a", "", 0), "a host name is needed"},
		"bad host":    {ingress("a", "x;y", 0), "a host name is needed"},
		"bad path":    {ingress("a", "h.test", 0, path(networking.PathTypePrefix, "/a { deny", "hello")), "misread"},
		"no service":  {ingress("a", "h.test", 0, path(networking.PathTypePrefix, "/", "none")), "not found"},
		"no endpoint": {ingress("a", "h.test", 0, path(networking.PathTypePrefix, "/", "idle")), "no ready endpoint"},
	} {
		_, problems := BuildSite(hello(), []*networking.Ingress{c.given})
		if len(problems) != 1 || !strings.Contains(problems[0], c.said) {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestTLSGoesToItsHostsAndABadPairToNobody(t *testing.T) {
	good := ingress("good", "a.test", 0, path(networking.PathTypePrefix, "/", "hello"))
	good.Spec.TLS = []networking.IngressTLS{{Hosts: []string{"a.test"}, SecretName: "good"}}
	bad := ingress("bad", "b.test", 0, path(networking.PathTypePrefix, "/", "hello"))
	bad.Spec.TLS = []networking.IngressTLS{{Hosts: []string{"b.test"}, SecretName: "bad"}}
	site, problems := BuildSite(hello(), []*networking.Ingress{good, bad})
	if len(site.Pairs) != 1 || site.Servers[0].Pair != site.Pairs[0].Name || site.Servers[1].Pair != "" || len(problems) != 1 {
		t.Fatalf("%v %v", site, problems)
	}
}

func TestDefaultBackendFillsTheRestOfAHost(t *testing.T) {
	given := ingress("a", "h.test", 0, path(networking.PathTypeExact, "/x", "idle"))
	given.Spec.DefaultBackend = ptr(backend("hello", networking.ServiceBackendPort{Number: 80}))
	site, _ := BuildSite(hello(), []*networking.Ingress{given})
	want := []Location{{"= /x", ""}, {"/", "apps_hello_80"}}
	if !slices.Equal(site.Servers[0].Locations, want) {
		t.Fatalf("%v", site.Servers[0].Locations)
	}
}

func TestEqualClustersRenderEqually(t *testing.T) {
	var texts []string
	for range 3 {
		site, _ := BuildSite(hello(), []*networking.Ingress{
			ingress("a", "b.test", 0, path(networking.PathTypePrefix, "/", "hello")),
			ingress("b", "a.test", 0, path(networking.PathTypePrefix, "/", "idle")),
		})
		text, err := Render(Layout{"/d", 80, 443, true, ""}, site, "default", "v")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	if texts[0] != texts[1] || texts[1] != texts[2] {
		t.Fatal("the order of maps shows in the configuration")
	}
	for _, line := range []string{"listen [::]:443 ssl default_server;", "server 10.244.1.2:8080 max_fails", "return 502;", "server_name a.test;"} {
		if !strings.Contains(texts[0], line) {
			t.Errorf("no %q in\n%s", line, texts[0])
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := ParseOptions([]string{"-ingress-class=x", "-report-ingress-status", "-enable-snippets=false", "-nginx-reload-timeout=500"})
	if err != nil || o.Class != "x" || !o.ReportStatus || o.ReloadTimeout != 500*time.Millisecond || o.ReadyPort != 8081 || o.MetricsPort != 0 {
		t.Fatalf("%+v %v", o, err)
	}
	for _, refused := range []string{"-unknown=1", "-enable-snippets=true", "-nginx-plus", "stray", "-nginx-configmaps=x"} {
		if _, err := ParseOptions([]string{refused}); err == nil {
			t.Errorf("%s was taken", refused)
		}
	}
}
