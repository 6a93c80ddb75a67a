// Command hello is the sandbox's stand-in for Google's hello-app sample: one page that says which
// version answered and from which pod. It needs no rights, no files and no network of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const version = "1.0.0"

// Kubernetes sends SIGTERM 30 s before SIGKILL; open requests get most of that.
const shutdownGrace = 20 * time.Second

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	server := &http.Server{
		Addr:              ":" + port,
		Handler:           hello(hostname),
		ReadHeaderTimeout: 5 * time.Second,
	}
	stopped, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	finished := make(chan error, 1)
	go func() {
		<-stopped.Done()
		grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		finished <- server.Shutdown(grace)
	}()
	log.Printf("hello %s listens on port %s", version, port)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-finished
}

// hello answers every path alike, as the sample does.
func hello(hostname string) http.Handler {
	page := fmt.Sprintf("Hello, world!\nVersion: %s\nHostname: %s\n", version, hostname)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %q from %s", r.Method, r.URL.Path, r.RemoteAddr)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, page)
	})
}
