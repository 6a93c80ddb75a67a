package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// What pods and the controller itself do when their node is drained.

func answers(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, word) }
}

// vacant is an address where nothing listens any more.
func vacant(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePort(t))
}

// serving is an nginx with one host and pods behind it; its end is the test's to call.
func serving(t *testing.T, pods ...string) (*Nginx, string) {
	t.Helper()
	nginx, layout := idle(t)
	pair, err := SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	site := Site{
		Servers:   []Server{{Host: "hello.test", Locations: []Location{{"/", "hello"}}}},
		Upstreams: []Upstream{{"hello", pods}},
	}
	text, err := Render(layout, site, pair.Name, "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := nginx.Apply(t.Context(), text, "v", []KeyPair{pair}); err != nil {
		t.Fatal(err)
	}
	return nginx, fmt.Sprintf("127.0.0.1:%d", layout.HTTPPort)
}

func TestAPodThatIsGoneCostsNoRequest(t *testing.T) {
	nginx, front := serving(t, vacant(t), pod(t, answers("here")), vacant(t))
	defer nginx.Stop(5 * time.Second)
	for range 50 {
		if code, body := get(t, "http://"+front, "hello.test"); code != 200 || body != "here" {
			t.Fatalf("%d %q", code, body)
		}
	}
}

func TestEveryRequestIsAnsweredWhileAPodLeaves(t *testing.T) {
	leaving := httptest.NewServer(answers("old"))
	slice := endpoints(leaving.Listener.Addr().String())
	ours := ingress("hello", "hello.test", 0, path(networking.PathTypePrefix, "/", "hello"))
	ours.Spec.IngressClassName = ptr("nginx")
	api := fake.NewClientset(class(), ours, slice, endpoints(pod(t, answers("new"))), &core.Service{
		ObjectMeta: meta.ObjectMeta{Namespace: "apps", Name: "hello"},
		Spec:       core.ServiceSpec{Ports: []core.ServicePort{{Name: "http", Port: 80}}},
	})
	nginx, layout := running(t, api, Options{Class: "nginx"})
	eventually(t, "nginx serves", nginx.Ready)
	load(t, fmt.Sprintf("http://127.0.0.1:%d", layout.HTTPPort))

	slice = slice.DeepCopy()
	slice.Endpoints[0].Conditions = discovery.EndpointConditions{
		Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true),
	}
	if _, err := api.DiscoveryV1().EndpointSlices("apps").Update(t.Context(), slice, meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod that was told to end is left out", func() bool {
		text, err := os.ReadFile(nginx.path("nginx.conf"))
		return err == nil && !strings.Contains(string(text), leaving.Listener.Addr().String())
	})
	leaving.Close()
	time.Sleep(300 * time.Millisecond)
}

// load asks again and again until the test ends, and fails it for each answer but 200.
func load(t *testing.T, url string) {
	t.Helper()
	finished := make(chan int)
	go func() {
		asked := 0
		for ; t.Context().Err() == nil; asked++ {
			if code, _, err := ask(url, "hello.test"); code != 200 || err != nil {
				t.Errorf("request %d: %d %v", asked, code, err)
			}
		}
		finished <- asked
	}()
	t.Cleanup(func() {
		if asked := <-finished; asked < 10 {
			t.Errorf("only %d requests", asked)
		}
	})
}

func TestOpenRequestsFinishAndNewOnesAreRefused(t *testing.T) {
	begun, proceed := make(chan struct{}), make(chan struct{})
	nginx, front := serving(t, pod(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-proceed
		fmt.Fprint(w, "finished")
	}))
	answered := make(chan string)
	go func() {
		code, body, err := ask("http://"+front, "hello.test")
		answered <- fmt.Sprintf("%d %s %v", code, body, err)
	}()
	<-begun
	stopped := make(chan error)
	go func() { stopped <- nginx.Stop(10 * time.Second) }()
	eventually(t, "no port is open any more", func() bool {
		connection, err := net.Dial("tcp", front)
		if err == nil {
			connection.Close()
		}
		return err != nil
	})
	if nginx.Ready() {
		t.Error("still ready")
	}
	close(proceed)
	if got := <-answered; got != "200 finished <nil>" {
		t.Error(got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestARequestThatNeverFinishesIsCut(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	nginx, front := serving(t, pod(t, func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-end
	}))
	defer close(end)
	go ask("http://"+front, "hello.test")
	<-begun
	began := time.Now()
	if err := nginx.Stop(200 * time.Millisecond); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 200*time.Millisecond || took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
}
