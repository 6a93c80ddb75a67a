package main

import (
	"context"
	"encoding/json"
	"net"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Addresses is what Ingresses report: the given address or, without one, the Service's own. It is nil
// where there is neither address nor Service.
func Addresses(given string, service *core.Service) []networking.IngressLoadBalancerIngress {
	if net.ParseIP(given) != nil {
		return []networking.IngressLoadBalancerIngress{{IP: given}}
	}
	if given != "" {
		return []networking.IngressLoadBalancerIngress{{Hostname: given}}
	}
	if service == nil {
		return nil
	}
	found := []networking.IngressLoadBalancerIngress{}
	for _, address := range service.Status.LoadBalancer.Ingress {
		found = append(found, networking.IngressLoadBalancerIngress{IP: address.IP, Hostname: address.Hostname})
	}
	return found
}

// Report writes the addresses to an Ingress unless it has them. It is a merge patch without a resource
// version: nobody else owns this field, and controllers on other nodes write the same.
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
