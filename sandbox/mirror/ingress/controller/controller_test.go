package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
)

// freePort asks the kernel; nginx takes the port a moment later.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func get(t *testing.T, url, host string) (int, string) {
	t.Helper()
	code, body, err := ask(url, host)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

// ask has a connection of its own, which ends with the answer.
func ask(url, host string) (int, string, error) {
	client := http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: host}, DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	request.Host = host
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 200 {
		if holds() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("not within 5 s: %s", what)
}

// idle is an nginx that does not run yet; the test is skipped where there is none.
func idle(t *testing.T) (*Nginx, Layout) {
	t.Helper()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("no nginx on the PATH")
	}
	nginx := &Nginx{Binary: binary, Dir: t.TempDir(), ReloadTimeout: 5 * time.Second}
	if err := nginx.Prepare(); err != nil {
		t.Fatal(err)
	}
	return nginx, Layout{nginx.Dir, freePort(t), freePort(t), false, "/nginx-health"}
}

// running is the whole controller against client-go's in-memory API, until the test ends.
func running(t *testing.T, api kubernetes.Interface, options Options) (*Nginx, Layout) {
	t.Helper()
	nginx, layout := idle(t)
	controller, err := NewController(api, options, layout, "own", nginx)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	if err := controller.CheckClass(ctx); err != nil {
		t.Fatal(err)
	}
	if err := controller.Start(ctx); err != nil {
		t.Fatal(err)
	}
	finished := make(chan struct{})
	go func() { controller.Run(ctx); close(finished) }()
	t.Cleanup(func() {
		cancel()
		<-finished
		if err := nginx.Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return nginx, layout
}

// pod answers at the address that is returned.
func pod(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func class() *networking.IngressClass {
	return &networking.IngressClass{
		ObjectMeta: meta.ObjectMeta{Name: "nginx"},
		Spec:       networking.IngressClassSpec{Controller: controllerName},
	}
}

// endpoints is the slice of the Service hello with one ready pod.
func endpoints(address string) *discovery.EndpointSlice {
	host, text, _ := net.SplitHostPort(address)
	port, _ := strconv.Atoi(text)
	return &discovery.EndpointSlice{
		ObjectMeta: meta.ObjectMeta{
			Namespace: "apps", Name: "hello-" + text, Labels: map[string]string{discovery.LabelServiceName: "hello"},
		},
		Ports:     []discovery.EndpointPort{{Name: ptr("http"), Port: ptr(int32(port))}},
		Endpoints: []discovery.Endpoint{{Addresses: []string{host}}},
	}
}

// The whole controller with a real nginx in front of a real server.
func TestFromIngressToAnswer(t *testing.T) {
	address := pod(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Host, r.URL.Path)
	})
	named := func(name string) meta.ObjectMeta { return meta.ObjectMeta{Namespace: "apps", Name: name} }
	pair, _ := SelfSigned()
	front := &core.Service{ObjectMeta: meta.ObjectMeta{Namespace: "own", Name: "front"}}
	front.Status.LoadBalancer.Ingress = []core.LoadBalancerIngress{{IP: "192.0.2.7"}}
	other := ingress("other", "other.test", 0, path(networking.PathTypePrefix, "/", "hello"))
	other.Spec.IngressClassName = ptr("somebody-else")
	api := fake.NewClientset(
		class(), front, other,
		&core.Secret{ObjectMeta: named("good"), Type: core.SecretTypeTLS, Data: map[string][]byte{core.TLSCertKey: pair.Cert, core.TLSPrivateKeyKey: pair.Key}},
		&core.Service{ObjectMeta: named("hello"), Spec: core.ServiceSpec{Ports: []core.ServicePort{{Name: "http", Port: 80}}}},
		endpoints(address),
	)
	options := Options{Class: "nginx", ExternalService: "front", ConfigMap: "own/settings", ReportStatus: true}
	nginx, layout := running(t, api, options)
	ctx := t.Context()
	plain := fmt.Sprintf("http://127.0.0.1:%d", layout.HTTPPort)
	secure := fmt.Sprintf("https://127.0.0.1:%d", layout.HTTPSPort)

	eventually(t, "nginx serves before there is any Ingress", nginx.Ready)
	if code, _ := get(t, plain, "hello.test"); code != 404 {
		t.Fatalf("no Ingress yet: %d", code)
	}
	if code, body := get(t, plain+"/nginx-health", "x"); code != 200 || body != "healthy\n" {
		t.Fatalf("health: %d %q", code, body)
	}

	ours := ingress("hello", "hello.test", 0, path(networking.PathTypePrefix, "/a", "hello"))
	ours.Spec.IngressClassName = ptr("nginx")
	if _, err := api.NetworkingV1().Ingresses("apps").Create(ctx, ours, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new host answers", func() bool {
		code, body := get(t, plain+"/a/b", "hello.test")
		return code == 200 && body == "hello.test /a/b"
	})
	for _, absent := range [][2]string{{"/ab", "hello.test"}, {"/", "other.test"}} {
		if code, _ := get(t, plain+absent[0], absent[1]); code != 404 {
			t.Errorf("%v: %d", absent, code)
		}
	}
	eventually(t, "the status tells the front's address", func() bool {
		got, err := api.NetworkingV1().Ingresses("apps").Get(ctx, "hello", meta.GetOptions{})
		return err == nil && len(got.Status.LoadBalancer.Ingress) == 1 && got.Status.LoadBalancer.Ingress[0].IP == "192.0.2.7"
	})

	settings := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Namespace: "own", Name: "settings"}}
	settings.Data = map[string]string{"external-status-address": "192.0.2.9", "proxy-connect-timeout": "3s"}
	if _, err := api.CoreV1().ConfigMaps("own").Create(ctx, settings, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the status tells the given address", func() bool {
		got, err := api.NetworkingV1().Ingresses("apps").Get(ctx, "hello", meta.GetOptions{})
		return err == nil && len(got.Status.LoadBalancer.Ingress) == 1 && got.Status.LoadBalancer.Ingress[0].IP == "192.0.2.9"
	})
	eventually(t, "nginx has the given bound", func() bool {
		text, err := os.ReadFile(nginx.path("nginx.conf"))
		return err == nil && strings.Contains(string(text), "proxy_connect_timeout 3s;")
	})

	ours.Spec.TLS = []networking.IngressTLS{{Hosts: []string{"hello.test"}, SecretName: "good"}}
	if _, err := api.NetworkingV1().Ingresses("apps").Update(ctx, ours, meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "HTTP leads to HTTPS", func() bool {
		code, _ := get(t, plain+"/a", "hello.test")
		return code == 301
	})
	if code, _ := get(t, secure+"/a", "hello.test"); code != 200 {
		t.Errorf("https: %d", code)
	}
	if code, _ := get(t, secure+"/a", "unknown.test"); code != 404 {
		t.Errorf("https for an unknown host: %d", code)
	}

	// A refused configuration must leave the running one alone.
	if err := nginx.Apply(ctx, "nonsense {", "v", nil); err == nil {
		t.Error("nonsense was taken")
	}
	if code, _ := get(t, secure+"/a", "hello.test"); code != 200 {
		t.Errorf("after a refused configuration: %d", code)
	}
}
