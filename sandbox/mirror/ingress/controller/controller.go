package main

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	controllerName  = "nginx.org/ingress-controller"
	classAnnotation = "kubernetes.io/ingress.class"

	// A rollout changes many objects at once; one reload for all of them is enough.
	settle = 100 * time.Millisecond
	again  = 2 * time.Second
)

// Controller keeps nginx and the Ingresses' status in step with the cluster.
type Controller struct {
	api       kubernetes.Interface
	options   Options
	layout    Layout
	namespace string // of the controller itself, where the external Service lives
	nginx     *Nginx
	selfMade  KeyPair

	ingresses networkinglisters.IngressLister
	services  corelisters.ServiceLister
	slices    discoverylisters.EndpointSliceLister
	secrets   corelisters.SecretLister
	settings  corelisters.ConfigMapLister // nil without -nginx-configmaps
	synced    []cache.InformerSynced

	changed chan struct{}
	applied string
}

// NewController wires the informers; Start runs them.
func NewController(api kubernetes.Interface, options Options, layout Layout, namespace string, nginx *Nginx) (*Controller, error) {
	pair, err := SelfSigned()
	if err != nil {
		return nil, err
	}
	return &Controller{
		api: api, options: options, layout: layout, namespace: namespace, nginx: nginx,
		selfMade: pair, changed: make(chan struct{}, 1),
	}, nil
}

// CheckClass refuses to run for a class that is missing or somebody else's.
func (c *Controller) CheckClass(ctx context.Context) error {
	class, err := c.api.NetworkingV1().IngressClasses().Get(ctx, c.options.Class, meta.GetOptions{})
	if err != nil {
		return fmt.Errorf("ingress class %q: %w", c.options.Class, err)
	}
	if class.Spec.Controller != controllerName {
		return fmt.Errorf("ingress class %q belongs to %s, not to %s", c.options.Class, class.Spec.Controller, controllerName)
	}
	return nil
}

// Start begins watching and returns when all caches are full.
func (c *Controller) Start(ctx context.Context) error {
	everywhere := informers.NewSharedInformerFactoryWithOptions(c.api, 0, informers.WithNamespace(c.options.WatchNamespace))
	pairs := informers.NewSharedInformerFactoryWithOptions(c.api, 0,
		informers.WithTweakListOptions(func(list *meta.ListOptions) {
			list.FieldSelector = fields.OneTermEqualSelector("type", string(core.SecretTypeTLS)).String()
		}))
	// The external Service lies in the controller's own namespace, which may not be the watched one.
	own := informers.NewSharedInformerFactoryWithOptions(c.api, 0, informers.WithNamespace(c.namespace))
	c.ingresses = everywhere.Networking().V1().Ingresses().Lister()
	c.services = everywhere.Core().V1().Services().Lister()
	c.slices = everywhere.Discovery().V1().EndpointSlices().Lister()
	c.secrets = pairs.Core().V1().Secrets().Lister()
	watched := []cache.SharedIndexInformer{
		everywhere.Networking().V1().Ingresses().Informer(),
		everywhere.Core().V1().Services().Informer(),
		everywhere.Discovery().V1().EndpointSlices().Informer(),
		pairs.Core().V1().Secrets().Informer(),
		own.Core().V1().Services().Informer(),
	}
	factories := []informers.SharedInformerFactory{everywhere, pairs, own}
	if c.options.ConfigMap != "" {
		config := c.oneConfigMap()
		c.settings = config.Core().V1().ConfigMaps().Lister()
		watched = append(watched, config.Core().V1().ConfigMaps().Informer())
		factories = append(factories, config)
	}
	for _, informer := range watched {
		if _, err := informer.AddEventHandler(c.wake()); err != nil {
			return err
		}
		c.synced = append(c.synced, informer.HasSynced)
	}
	for _, factory := range factories {
		factory.Start(ctx.Done())
	}
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return ctx.Err()
	}
	return nil
}

// oneConfigMap watches the one with settings only: a namespace may be full of others.
func (c *Controller) oneConfigMap() informers.SharedInformerFactory {
	namespace, name, _ := strings.Cut(c.options.ConfigMap, "/")
	return informers.NewSharedInformerFactoryWithOptions(c.api, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(list *meta.ListOptions) {
			list.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		}))
}

func (c *Controller) wake() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { c.poke() },
		UpdateFunc: func(any, any) { c.poke() },
		DeleteFunc: func(any) { c.poke() },
	}
}

func (c *Controller) poke() {
	select {
	case c.changed <- struct{}{}:
	default: // a round is already due
	}
}

// Run reconciles once at the start and after every change, until ctx ends. A failed round is
// repeated: what failed may be passing.
func (c *Controller) Run(ctx context.Context) {
	c.poke()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		if err := c.round(ctx); err != nil && ctx.Err() == nil {
			log.Printf("round failed, again in %s: %v", again, err)
			time.AfterFunc(again, c.poke)
		}
	}
}

func (c *Controller) round(ctx context.Context) error {
	ours, err := c.ours()
	if err != nil {
		return err
	}
	tuning, problems := c.tuning()
	if err := c.serve(ctx, ours, tuning, problems); err != nil {
		return err
	}
	if !c.options.ReportStatus {
		return nil
	}
	return c.report(ctx, ours, tuning)
}

// tuning reads the settings; a ConfigMap that is not there says nothing.
func (c *Controller) tuning() (Tuning, []string) {
	if c.settings == nil {
		return Tuning{}, nil
	}
	namespace, name, _ := strings.Cut(c.options.ConfigMap, "/")
	config, err := c.settings.ConfigMaps(namespace).Get(name)
	if err != nil {
		return Tuning{}, []string{fmt.Sprintf("settings: %v", err)}
	}
	return ReadTuning(config.Data)
}

// ours picks the class's Ingresses; the annotation is the old way to say it.
func (c *Controller) ours() ([]*networking.Ingress, error) {
	all, err := c.ingresses.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var ours []*networking.Ingress
	for _, ingress := range all {
		class := ingress.Annotations[classAnnotation]
		if ingress.Spec.IngressClassName != nil {
			class = *ingress.Spec.IngressClassName
		}
		if class == c.options.Class {
			ours = append(ours, ingress)
		}
	}
	return ours, nil
}

func (c *Controller) serve(ctx context.Context, ours []*networking.Ingress, tuning Tuning, problems []string) error {
	site, left := BuildSite(c, ours)
	problems = append(problems, left...)
	site.ConnectTimeout = tuning.ConnectTimeout
	defaultPair, err := c.defaultPair()
	if err != nil {
		problems = append(problems, err.Error())
	}
	site.Pairs = append(site.Pairs, defaultPair)
	plain, err := Render(c.layout, site, defaultPair.Name, "")
	if err != nil {
		return err
	}
	version := digest([]byte(plain))
	if version == c.applied {
		return nil
	}
	text, err := Render(c.layout, site, defaultPair.Name, version)
	if err != nil {
		return err
	}
	for _, problem := range problems {
		log.Print(problem)
	}
	began := time.Now()
	if err := c.nginx.Apply(ctx, text, version, site.Pairs); err != nil {
		return err
	}
	c.applied = version
	log.Printf("nginx serves configuration %s: %d hosts, %d upstreams, after %s",
		version, len(site.Servers), len(site.Upstreams), time.Since(began).Round(time.Millisecond))
	return nil
}

func (c *Controller) defaultPair() (KeyPair, error) {
	if c.options.DefaultTLS == "" {
		return c.selfMade, nil
	}
	namespace, name, _ := strings.Cut(c.options.DefaultTLS, "/")
	secret, err := c.TLSSecret(namespace, name)
	if err != nil {
		return c.selfMade, fmt.Errorf("default certificate: %w", err)
	}
	pair, err := NewKeyPair(secret)
	if err != nil {
		return c.selfMade, fmt.Errorf("default certificate: %w", err)
	}
	return pair, nil
}

func (c *Controller) report(ctx context.Context, ours []*networking.Ingress, tuning Tuning) error {
	var service *core.Service
	if tuning.StatusAddress == "" && c.options.ExternalService != "" {
		found, err := c.api.CoreV1().Services(c.namespace).Get(ctx, c.options.ExternalService, meta.GetOptions{})
		if err != nil {
			return fmt.Errorf("external service: %w", err)
		}
		service = found
	}
	addresses := Addresses(tuning.StatusAddress, service)
	if addresses == nil {
		return nil
	}
	for _, ingress := range ours {
		written, err := Report(ctx, c.api, ingress, addresses)
		if err != nil {
			return fmt.Errorf("status of ingress %s/%s: %w", ingress.Namespace, ingress.Name, err)
		}
		if written {
			log.Printf("ingress %s/%s: status written", ingress.Namespace, ingress.Name)
		}
	}
	return nil
}

// Service implements Cluster from the cache.
func (c *Controller) Service(namespace, name string) (*core.Service, error) {
	return c.services.Services(namespace).Get(name)
}

// EndpointSlices implements Cluster from the cache.
func (c *Controller) EndpointSlices(namespace, service string) ([]*discovery.EndpointSlice, error) {
	return c.slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discovery.LabelServiceName: service}))
}

// TLSSecret implements Cluster from the cache.
func (c *Controller) TLSSecret(namespace, name string) (*core.Secret, error) {
	return c.secrets.Secrets(namespace).Get(name)
}
