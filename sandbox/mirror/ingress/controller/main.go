// Command nginx-ingress is the sandbox's openly named stand-in for F5's NGINX Ingress Controller.
//
// It serves plain networking.k8s.io/v1 Ingresses of one class through Debian's nginx, which it runs as
// a child, and takes the flags of the real controller that concern that. Custom resources, snippets,
// App Protect, NGINX Plus and the rest are not here.
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

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	directory = "/var/lib/nginx-ingress" // all that is written; a volume where the root is read-only
	binary    = "/usr/sbin/nginx"
	grace     = 20 * time.Second // the kubelet kills 30 s after SIGTERM
)

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	log.Print("nginx-ingress of the sandbox: a stand-in, not F5's controller; it reports nothing to anybody")
	options, err := ParseOptions(os.Args[1:])
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	if err := run(options); err != nil {
		log.Fatal(err)
	}
}

func run(options Options) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace := os.Getenv("POD_NAMESPACE")
	if namespace == "" {
		return errors.New("POD_NAMESPACE is not set")
	}
	nginx := &Nginx{Binary: binary, Dir: directory, ReloadTimeout: options.ReloadTimeout}
	if err := nginx.Prepare(); err != nil {
		return err
	}
	layout := Layout{directory, options.HTTPPort, options.HTTPSPort, options.IPv6, options.HealthURI}
	controller, err := NewController(api, options, layout, namespace, nginx)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	listen(options.ReadyPort, "/nginx-ready", readiness(nginx), failed)
	listen(options.MetricsPort, "/metrics", metrics(nginx), failed)
	if err := controller.CheckClass(ctx); err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	finished := make(chan struct{})
	go func() { controller.Run(ctx); close(finished) }()
	select {
	case <-ctx.Done():
		log.Print("told to stop: open requests may finish")
		<-finished // else it could start or reload an nginx that is to end
		return nginx.Stop(grace)
	case err := <-nginx.Exited():
		return fmt.Errorf("nginx ended: %v", err)
	case err := <-failed:
		return err
	}
}

func listen(port int, path string, handler http.HandlerFunc, failed chan<- error) {
	if port == 0 {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc(path, handler)
	server := &http.Server{Addr: fmt.Sprintf(":%d", port), Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { failed <- server.ListenAndServe() }()
}

func readiness(nginx *Nginx) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if !nginx.Ready() {
			http.Error(w, "nginx does not serve yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	}
}

func metrics(nginx *Nginx) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "# TYPE nginx_ingress_controller_nginx_reloads_total counter\n"+
			"nginx_ingress_controller_nginx_reloads_total %d\n", nginx.Reloads.Load())
	}
}
