package main

import (
	"context"
	"net/http"
)

// serveHealth answers the chart's probe of the controller, which asks for /livez on port 9403.
func serveHealth(ctx context.Context) error {
	server := &http.Server{
		Addr:    ":9403",
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}
