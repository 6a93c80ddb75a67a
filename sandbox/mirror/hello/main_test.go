package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestEveryPathSaysHello(t *testing.T) {
	for _, path := range []string{"/", "/any/other?q=1"} {
		answer := httptest.NewRecorder()
		hello("pod-1").ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		want := "Hello, world!\nVersion: 1.0.0\nHostname: pod-1\n"
		if answer.Code != http.StatusOK || answer.Body.String() != want {
			t.Errorf("%s: %d %q", path, answer.Code, answer.Body.String())
		}
	}
}
