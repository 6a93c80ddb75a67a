package main

import (
	"context"
	"encoding/json"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// LoadBalancerOf turns the Service's own addresses into what its Ingresses report.
func LoadBalancerOf(service *core.Service) []networking.IngressLoadBalancerIngress {
	found := []networking.IngressLoadBalancerIngress{}
	for _, address := range service.Status.LoadBalancer.Ingress {
		found = append(found, networking.IngressLoadBalancerIngress{IP: address.IP, Hostname: address.Hostname})
	}
	return found
}

// Report writes the addresses to an Ingress unless it has them. It is a merge patch without a resource
// version: nobody else owns this field, and so no other writer can make it conflict.
func Report(ctx context.Context, api kubernetes.Interface, ingress *networking.Ingress, addresses []networking.IngressLoadBalancerIngress) (bool, error) {
	have := ingress.Status.LoadBalancer.Ingress
	if len(have) == len(addresses) && (len(have) == 0 || equality.Semantic.DeepEqual(have, addresses)) {
		return false, nil
	}
	patch, err := json.Marshal(map[string]any{
		"status": map[string]any{"loadBalancer": map[string]any{"ingress": addresses}},
	})
	if err != nil {
		return false, err
	}
	_, err = api.NetworkingV1().Ingresses(ingress.Namespace).Patch(
		ctx, ingress.Name, types.MergePatchType, patch, meta.PatchOptions{}, "status")
	return err == nil, err
}
