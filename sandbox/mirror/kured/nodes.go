package main

import (
	"context"
	"fmt"
	"log"
	"time"

	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// again is the pause between two tries to evict what a budget keeps.
const again = time.Second

// Nodes cordons and drains.
type Nodes struct {
	api   kubernetes.Interface
	bound time.Duration // on a drain; none where it is 0
}

// Cordoned tells whether a node takes no new pods.
func (n Nodes) Cordoned(ctx context.Context, node string) (bool, error) {
	found, err := n.api.CoreV1().Nodes().Get(ctx, node, meta.GetOptions{})
	if err != nil {
		return false, err
	}
	return found.Spec.Unschedulable, nil
}

// Cordon keeps new pods away from a node, or lets them in again.
func (n Nodes) Cordon(ctx context.Context, node string, wanted bool) error {
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, wanted)
	_, err := n.api.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, patch, meta.PatchOptions{})
	return err
}

// Drain cordons a node and evicts its pods; it returns when they are gone.
func (n Nodes) Drain(ctx context.Context, node string) error {
	if n.bound > 0 {
		bounded, cancel := context.WithTimeout(ctx, n.bound)
		defer cancel()
		ctx = bounded
	}
	if err := n.Cordon(ctx, node, true); err != nil {
		return err
	}
	told := map[types.UID]bool{}
	for {
		left, err := n.evictable(ctx, node)
		if err != nil || len(left) == 0 {
			return err
		}
		for _, pod := range left {
			if told[pod.UID] {
				continue
			}
			if err := n.evict(ctx, pod); errors.IsTooManyRequests(err) {
				log.Printf("%s/%s is kept by a budget", pod.Namespace, pod.Name)
			} else if err != nil && !errors.IsNotFound(err) {
				return err
			} else {
				told[pod.UID] = true
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pods are left on %s: %w", node, ctx.Err())
		case <-time.After(again):
		}
	}
}

func (n Nodes) evict(ctx context.Context, pod core.Pod) error {
	eviction := policy.Eviction{
		ObjectMeta:    meta.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &meta.DeleteOptions{Preconditions: meta.NewUIDPreconditions(string(pod.UID))},
	}
	return n.api.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &eviction)
}

// evictable lists what has to go: not what the kubelet itself or a DaemonSet keeps there.
func (n Nodes) evictable(ctx context.Context, node string) ([]core.Pod, error) {
	list := meta.ListOptions{FieldSelector: "spec.nodeName=" + node}
	pods, err := n.api.CoreV1().Pods("").List(ctx, list)
	if err != nil {
		return nil, err
	}
	var left []core.Pod
	for _, pod := range pods.Items {
		owner := meta.GetControllerOf(&pod)
		_, mirrored := pod.Annotations[core.MirrorPodAnnotationKey]
		if !mirrored && (owner == nil || owner.Kind != "DaemonSet") {
			left = append(left, pod)
		}
	}
	return left, nil
}
