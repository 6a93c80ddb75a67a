package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apps "k8s.io/api/apps/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// Holder is what stands in the lock's annotation, as the real kured writes it.
type Holder struct {
	NodeID   string `json:"nodeID"`
	Metadata struct {
		Unschedulable bool `json:"unschedulable"`
	} `json:"metadata"`
	Created time.Time     `json:"created"`
	TTL     time.Duration `json:"TTL"`
}

func (h Holder) expired(now time.Time) bool { return h.TTL > 0 && now.Sub(h.Created) >= h.TTL }

// Lock is an annotation of the DaemonSet: whoever writes it first has it.
type Lock struct {
	api                         kubernetes.Interface
	namespace, name, annotation string
	node                        string
}

// Held tells who has the lock; nobody where it has run out.
func (l Lock) Held(ctx context.Context) (*Holder, error) {
	set, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return l.read(set, time.Now())
}

// Acquire takes the lock if it is free, and tells who has it.
func (l Lock) Acquire(ctx context.Context, unschedulable bool, now time.Time) (string, error) {
	holder := ""
	err := l.change(ctx, func(set *apps.DaemonSet) (bool, error) {
		held, err := l.read(set, now)
		if err != nil {
			return false, err
		}
		if held != nil {
			holder = held.NodeID
			return false, nil
		}
		holder = l.node
		taken := Holder{NodeID: l.node, Created: now.UTC()}
		taken.Metadata.Unschedulable = unschedulable
		text, err := json.Marshal(taken)
		meta.SetMetaDataAnnotation(&set.ObjectMeta, l.annotation, string(text))
		return true, err
	})
	return holder, err
}

// Release gives the lock back.
func (l Lock) Release(ctx context.Context) error {
	return l.change(ctx, func(set *apps.DaemonSet) (bool, error) {
		held, err := l.read(set, time.Time{})
		if err != nil {
			return false, err
		}
		if held == nil || held.NodeID != l.node {
			return false, fmt.Errorf("%s does not hold the lock", l.node)
		}
		delete(set.Annotations, l.annotation)
		return true, nil
	})
}

func (l Lock) get(ctx context.Context) (*apps.DaemonSet, error) {
	return l.api.AppsV1().DaemonSets(l.namespace).Get(ctx, l.name, meta.GetOptions{})
}

func (l Lock) read(set *apps.DaemonSet, now time.Time) (*Holder, error) {
	text, there := set.Annotations[l.annotation]
	if !there {
		return nil, nil
	}
	holder := &Holder{}
	if err := json.Unmarshal([]byte(text), holder); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", l.annotation, err)
	}
	if holder.expired(now) {
		return nil, nil
	}
	return holder, nil
}

// change writes what edit made of the DaemonSet, and starts over where somebody else was quicker.
func (l Lock) change(ctx context.Context, edit func(*apps.DaemonSet) (bool, error)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		set, err := l.get(ctx)
		if err != nil {
			return err
		}
		changed, err := edit(set)
		if err != nil || !changed {
			return err
		}
		_, err = l.api.AppsV1().DaemonSets(l.namespace).Update(ctx, set, meta.UpdateOptions{})
		return err
	})
}
