package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Nginx is the child process and its directory. One goroutine calls Apply; Ready may be asked by all.
type Nginx struct {
	Binary        string
	Dir           string
	ReloadTimeout time.Duration

	process *exec.Cmd
	exited  chan error
	ready   atomic.Bool
	Reloads atomic.Int64
}

// Prepare makes the directories and removes what a container killed earlier has left in them.
func (n *Nginx) Prepare() error {
	for _, name := range []string{"tls", "tmp"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, name), 0o700); err != nil {
			return err
		}
	}
	if err := os.Remove(n.path("version.sock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	n.exited = make(chan error, 1)
	return nil
}

func (n *Nginx) path(name string) string { return filepath.Join(n.Dir, name) }

// Apply tests a configuration and, only if nginx accepts it, makes it the running one: it returns when
// workers answer with its version. A refused configuration leaves the old one in force.
func (n *Nginx) Apply(ctx context.Context, text, version string, pairs []KeyPair) error {
	for _, pair := range pairs {
		if err := n.store(pair); err != nil {
			return err
		}
	}
	candidate := n.path("nginx.conf.new")
	if err := os.WriteFile(candidate, []byte(text), 0o600); err != nil {
		return err
	}
	test := exec.CommandContext(ctx, n.Binary, "-t", "-q", "-e", "stderr", "-c", candidate)
	if said, err := test.CombinedOutput(); err != nil {
		return fmt.Errorf("nginx refuses the configuration: %w: %s", err, strings.TrimSpace(string(said)))
	}
	if err := os.Rename(candidate, n.path("nginx.conf")); err != nil {
		return err
	}
	if err := n.startOrReload(); err != nil {
		return err
	}
	if err := n.await(ctx, version); err != nil {
		return err
	}
	n.ready.Store(true)
	return nil
}

func (n *Nginx) store(pair KeyPair) error {
	if err := os.WriteFile(n.path("tls/"+pair.Name+".key"), pair.Key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(n.path("tls/"+pair.Name+".crt"), pair.Cert, 0o600)
}

func (n *Nginx) startOrReload() error {
	if n.process != nil {
		n.Reloads.Add(1)
		return n.process.Process.Signal(syscall.SIGHUP)
	}
	process := exec.Command(n.Binary, "-e", "stderr", "-c", n.path("nginx.conf"))
	process.Stdout, process.Stderr = os.Stdout, os.Stderr
	if err := process.Start(); err != nil {
		return err
	}
	n.process = process
	go func() { n.exited <- process.Wait() }()
	return nil
}

// await asks the version server until it tells the new version: new connections go to new workers.
func (n *Nginx) await(ctx context.Context, version string) error {
	bound, cancel := context.WithTimeout(ctx, n.ReloadTimeout)
	defer cancel()
	for {
		running, err := n.version(bound)
		if err == nil && running == version {
			return nil
		}
		select {
		case <-bound.Done():
			return fmt.Errorf("nginx did not take version %s within %s (has %q, %v)", version, n.ReloadTimeout, running, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (n *Nginx) version(ctx context.Context) (string, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.path("version.sock"))
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://nginx/", nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64))
	return string(body), err
}

// Ready says whether nginx serves a configuration made from the cluster.
func (n *Nginx) Ready() bool { return n.ready.Load() }

// Exited gives nginx' end; the container ends with it and the kubelet starts a new one.
func (n *Nginx) Exited() <-chan error { return n.exited }

// Stop closes the ports and lets open requests finish, at most for grace. Connections that still wait for
// nginx to take them are refused: nobody may send any more when it is called, which the pod's preStop is
// to see to.
func (n *Nginx) Stop(grace time.Duration) error {
	n.ready.Store(false)
	if n.process == nil {
		return nil
	}
	if err := n.process.Process.Signal(syscall.SIGQUIT); err != nil {
		return err
	}
	select {
	case err := <-n.exited:
		return err
	case <-time.After(grace):
		log.Printf("requests that are open after %s are cut", grace)
		return n.kill()
	}
}

// kill ends nginx with what is open. By SIGTERM first, as SIGKILL would leave its workers behind.
func (n *Nginx) kill() error {
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-n.exited:
		return err
	case <-time.After(3 * time.Second):
		return n.process.Process.Kill()
	}
}
