package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"
)

// Options are the flags of F5's controller that mean something here; the flag package refuses others.
type Options struct {
	Class, ExternalService, DefaultTLS, WatchNamespace string
	ConfigMap                                          string
	ReportStatus                                       bool
	HTTPPort, HTTPSPort                                int
	ReadyPort, MetricsPort                             int
	ReloadTimeout                                      time.Duration
	IPv6                                               bool
	HealthURI                                          string
}

// ParseOptions reads the flags. Features that this stand-in does not have are refused when switched
// on: a site must not believe it has them.
func ParseOptions(args []string) (Options, error) {
	var o Options
	flags := flag.NewFlagSet("nginx-ingress", flag.ContinueOnError)
	flags.StringVar(&o.Class, "ingress-class", "nginx", "serve the Ingresses of this class")
	flags.StringVar(&o.ExternalService, "external-service", "", "Service whose addresses go to the Ingresses' status")
	flags.BoolVar(&o.ReportStatus, "report-ingress-status", false, "write the Ingresses' status")
	flags.StringVar(&o.DefaultTLS, "default-server-tls-secret", "", "NAMESPACE/NAME; self-signed without it")
	flags.StringVar(&o.WatchNamespace, "watch-namespace", "", "only this namespace; all without it")
	flags.IntVar(&o.HTTPPort, "default-http-listener-port", 80, "port for HTTP")
	flags.IntVar(&o.HTTPSPort, "default-https-listener-port", 443, "port for HTTPS")
	ready := flags.Bool("ready-status", true, "answer /nginx-ready")
	flags.IntVar(&o.ReadyPort, "ready-status-port", 8081, "port of /nginx-ready")
	metrics := flags.Bool("enable-prometheus-metrics", false, "answer /metrics")
	flags.IntVar(&o.MetricsPort, "prometheus-metrics-listen-port", 9113, "port of /metrics")
	reload := flags.Int("nginx-reload-timeout", 60000, "milliseconds until a reload counts as failed")
	noIPv6 := flags.Bool("disable-ipv6", false, "listen on IPv4 only")
	health := flags.Bool("health-status", false, "answer the health URI on the default server")
	healthURI := flags.String("health-status-uri", "/nginx-health", "the health URI")
	flags.Bool("enable-telemetry-reporting", true, "nothing is ever reported to anybody")
	flags.Bool("enable-custom-resources", true, "accepted; there are none here")
	flags.String("log-level", "info", "accepted; there is one level")
	flags.StringVar(&o.ConfigMap, "nginx-configmaps", "", "NAMESPACE/NAME of the ConfigMap with settings")
	var absent absentFeatures
	for _, name := range []string{"nginx-plus", "enable-snippets", "enable-app-protect", "enable-oidc", "enable-cert-manager"} {
		flags.BoolFunc(name, "false only: not in this stand-in", absent.refuse(name))
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if len(absent) > 0 {
		return o, fmt.Errorf("this stand-in does not have: %s", strings.Join(absent, ", "))
	}
	if !*ready {
		o.ReadyPort = 0
	}
	if !*metrics {
		o.MetricsPort = 0
	}
	if *health {
		o.HealthURI = *healthURI
		if !safePath.MatchString(o.HealthURI) {
			return o, fmt.Errorf("-health-status-uri %q: want a plain path", o.HealthURI)
		}
	}
	o.IPv6 = !*noIPv6
	o.ReloadTimeout = time.Duration(*reload) * time.Millisecond
	if o.DefaultTLS != "" && strings.Count(o.DefaultTLS, "/") != 1 {
		return o, errors.New("-default-server-tls-secret: want NAMESPACE/NAME")
	}
	if o.ConfigMap != "" && strings.Count(o.ConfigMap, "/") != 1 {
		return o, errors.New("-nginx-configmaps: want NAMESPACE/NAME")
	}
	return o, nil
}

type absentFeatures []string

func (a *absentFeatures) refuse(name string) func(string) error {
	return func(value string) error {
		if value != "false" {
			*a = append(*a, "-"+name)
		}
		return nil
	}
}
