package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

var night = time.Date(2026, 3, 4, 3, 0, 0, 0, time.UTC) // a Wednesday

// cluster has two nodes, one pod that can be evicted, and one of a DaemonSet, all on n1.
func cluster() *fake.Clientset {
	yes := true
	owned := meta.ObjectMeta{Namespace: "kured", Name: "kured-x", UID: "1"}
	owned.OwnerReferences = []meta.OwnerReference{{Kind: "DaemonSet", Name: "kured", Controller: &yes}}
	on := core.PodSpec{NodeName: "n1"}
	api := fake.NewClientset(
		&core.Node{ObjectMeta: meta.ObjectMeta{Name: "n1"}},
		&core.Node{ObjectMeta: meta.ObjectMeta{Name: "n2"}},
		&apps.DaemonSet{ObjectMeta: meta.ObjectMeta{Namespace: "kured", Name: "kured"}},
		&core.Pod{ObjectMeta: owned, Spec: on},
		&core.Pod{ObjectMeta: meta.ObjectMeta{Namespace: "web", Name: "web-0", UID: "2"}, Spec: on},
	)
	api.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		pods := core.SchemeGroupVersion.WithResource("pods")
		return true, nil, api.Tracker().Delete(pods, "web", "web-0")
	})
	return api
}

func daemon(api *fake.Clientset, node string, host func(string) (string, error)) *Daemon {
	options, window, err := parse([]string{
		"--ds-namespace=kured", "--reboot-sentinel-command=due", "--reboot-command=reboot", "--period=1s",
		"--reboot-days=wed", "--start-time=02:00", "--end-time=05:00", "--drain-timeout=5s",
	}, node)
	if err != nil {
		panic(err)
	}
	lock := Lock{api, options.Namespace, options.Name, options.Annotation, node}
	return &Daemon{options, window, lock, Nodes{api, options.DrainTimeout}, host}
}

func TestOneNodeRebootsWhileTheOthersWait(t *testing.T) {
	ctx, api := context.Background(), cluster()
	rebooting := make(chan struct{})
	first := daemon(api, "n1", func(command string) (string, error) {
		if command == "reboot" {
			close(rebooting)
		}
		return "", nil
	})
	go first.look(ctx, night)
	<-rebooting
	if cordoned, _ := first.nodes.Cordoned(ctx, "n1"); !cordoned {
		t.Error("n1 reboots without being cordoned")
	}
	if left, _ := first.nodes.evictable(ctx, "n1"); len(left) > 0 {
		t.Errorf("n1 reboots with %s", left[0].Name)
	}
	second := daemon(api, "n2", func(string) (string, error) { return "", nil })
	if err := second.look(ctx, night); err == nil || !strings.Contains(err.Error(), `held by "n1"`) {
		t.Errorf("n2 looked and said %v", err)
	}
	if err := first.settle(ctx); err != nil {
		t.Fatal(err)
	}
	if cordoned, _ := first.nodes.Cordoned(ctx, "n1"); cordoned {
		t.Error("n1 is back and still cordoned")
	}
	if holder, err := second.lock.Acquire(ctx, false, night); holder != "n2" || err != nil {
		t.Errorf("after n1, the lock has %q (%v)", holder, err)
	}
}

func TestNothingHappensOutsideTheWindowOrWithoutNeed(t *testing.T) {
	asked := 0
	idle := daemon(cluster(), "n1", func(string) (string, error) { asked++; return "", errors.New("not due") })
	for _, now := range []time.Time{night, night.Add(24 * time.Hour), night.Add(3 * time.Hour)} {
		if err := idle.look(context.Background(), now); err != nil {
			t.Error(err)
		}
	}
	if held, err := idle.lock.Held(context.Background()); asked != 1 || held != nil || err != nil {
		t.Errorf("asked %d times, lock %v, %v", asked, held, err)
	}
}

func TestALockInAnotherNameIsRespectedUntilItRunsOut(t *testing.T) {
	ctx, api := context.Background(), cluster()
	lock := daemon(api, "n1", nil).lock
	set, _ := lock.get(ctx)
	set.Annotations = map[string]string{lock.annotation: `{"nodeID":"(upgrade)","created":"2026-03-04T02:50:00Z","TTL":1200000000000}`}
	if _, err := api.AppsV1().DaemonSets("kured").Update(ctx, set, meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if holder, _ := lock.Acquire(ctx, false, night); holder != "(upgrade)" {
		t.Errorf("the lock has %q", holder)
	}
	if holder, _ := lock.Acquire(ctx, false, night.Add(10*time.Minute)); holder != "n1" {
		t.Errorf("after its time the lock has %q", holder)
	}
}

func TestAWindowMayGoPastMidnight(t *testing.T) {
	window, err := NewWindow([]string{"mon", "wednesday"}, "22:00", "04:00", "Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for hour, within := range map[int]bool{2: true, 4: false, 20: false, 21: true} { // an hour behind
		if at := night.Add(time.Duration(hour-3) * time.Hour); window.Contains(at) != within {
			t.Errorf("%s: %t", at, !within)
		}
	}
	for _, wrong := range [][]string{{"x"}, {"mo"}, {"mon", "25:00"}} {
		if _, err := NewWindow(wrong[:1], append(wrong, "x")[1], "04:00", "UTC"); err == nil {
			t.Errorf("%v was taken", wrong)
		}
	}
}
