package main

import (
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

func TestTuning(t *testing.T) {
	tuning, problems := ReadTuning(map[string]string{
		"external-status-address": "192.0.2.9", "proxy-connect-timeout": "3s",
	})
	if tuning != (Tuning{"192.0.2.9", "3s"}) || len(problems) > 0 {
		t.Fatalf("%v %v", tuning, problems)
	}
	if tuning, problems = ReadTuning(nil); tuning != (Tuning{}) || len(problems) > 0 {
		t.Fatalf("%v %v", tuning, problems)
	}
}

func TestTuningThatIsNotHereIsSaidAndLeftOut(t *testing.T) {
	for key, c := range map[string][2]string{
		"proxy-read-timeout":    {"3s", "does not have it"},
		"proxy-connect-timeout": {"3s; deny all", "want a number"},
	} {
		tuning, problems := ReadTuning(map[string]string{key: c[0]})
		if tuning != (Tuning{}) || len(problems) != 1 || !strings.Contains(problems[0], c[1]) {
			t.Errorf("%s: %v %v", key, tuning, problems)
		}
	}
}

func TestTheConnectTimeoutIsNginxOwnUnlessGiven(t *testing.T) {
	for timeout, want := range map[string]bool{"": false, "3s": true} {
		text, err := Render(Layout{"/d", 80, 443, true, ""}, Site{ConnectTimeout: timeout}, "default", "v")
		if err != nil || strings.Contains(text, "proxy_connect_timeout 3s;") != want || strings.Contains(text, "proxy_connect_timeout ;") {
			t.Errorf("%q: %v\n%s", timeout, err, text)
		}
	}
}

func TestAGivenStatusAddressGoesBeforeTheServices(t *testing.T) {
	service := &core.Service{}
	service.Status.LoadBalancer.Ingress = []core.LoadBalancerIngress{{IP: "192.0.2.7"}}
	for given, want := range map[string]networking.IngressLoadBalancerIngress{
		"":              {IP: "192.0.2.7"},
		"192.0.2.9":     {IP: "192.0.2.9"},
		"front.example": {Hostname: "front.example"},
	} {
		found := Addresses(given, service)
		if len(found) != 1 || found[0].IP != want.IP || found[0].Hostname != want.Hostname {
			t.Errorf("%q: %v", given, found)
		}
	}
	if found := Addresses("", nil); found != nil {
		t.Errorf("no source: %v", found)
	}
}
