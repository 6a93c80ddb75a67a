// Command kured is the sandbox's openly named stand-in for kured, the Kubernetes reboot daemon.
//
// It takes those of the real one's flags that our manifest uses, holds the same lock in the same
// annotation, and does the same in the same order: asks the sentinel, takes the lock, cordons, drains,
// reboots; after the boot it uncordons and gives the lock back. Metrics, notifications, alerts, taints,
// labels and several reboots at once are not here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// firstLook bounds the pause before the lock is looked at after a start. It is long in the real one
// too, as a node that has just come up may still be settling.
const firstLook = time.Minute

// Options are the flags.
type Options struct {
	Node                        string
	Namespace, Name, Annotation string
	Sentinel, Reboot            string
	Period, DrainTimeout        time.Duration
	Days, Start, End, Zone      string
	Concurrency                 int
}

func parse(arguments []string, node string) (Options, Window, error) {
	o := Options{Node: node}
	flags := flag.NewFlagSet("kured", flag.ContinueOnError)
	flags.StringVar(&o.Namespace, "ds-namespace", "kube-system", "namespace of the DaemonSet with the lock")
	flags.StringVar(&o.Name, "ds-name", "kured", "its name")
	flags.StringVar(&o.Annotation, "lock-annotation", "weave.works/kured-node-lock", "the lock")
	flags.StringVar(&o.Sentinel, "reboot-sentinel-command", "", "ends with 0 where the node is to be rebooted")
	flags.StringVar(&o.Reboot, "reboot-command", "/bin/systemctl reboot", "reboots the node")
	flags.DurationVar(&o.Period, "period", time.Hour, "between two looks at the sentinel")
	flags.DurationVar(&o.DrainTimeout, "drain-timeout", 0, "bound on a drain; none by default")
	flags.StringVar(&o.Days, "reboot-days", "su,mo,tu,we,th,fr,sa", "days on which it may reboot")
	flags.StringVar(&o.Start, "start-time", "0:00", "from then on")
	flags.StringVar(&o.End, "end-time", "23:59:59", "until then")
	flags.StringVar(&o.Zone, "time-zone", "UTC", "of days and times")
	flags.IntVar(&o.Concurrency, "concurrency", 1, "only 1 is here")
	if err := flags.Parse(arguments); err != nil {
		return o, Window{}, err
	}
	if o.Node == "" || o.Sentinel == "" || o.Concurrency != 1 {
		return o, Window{}, errors.New("KURED_NODE_ID, -reboot-sentinel-command and -concurrency=1 are needed here")
	}
	window, err := NewWindow(strings.Split(o.Days, ","), o.Start, o.End, o.Zone)
	return o, window, err
}

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	log.Print("kured of the sandbox: a stand-in, not the real one")
	options, window, err := parse(os.Args[1:], os.Getenv("KURED_NODE_ID"))
	if err != nil {
		log.Fatal(err)
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	daemon := Daemon{
		Options: options,
		window:  window,
		lock:    Lock{api, options.Namespace, options.Name, options.Annotation, options.Node},
		nodes:   Nodes{api, options.DrainTimeout},
		host:    hostCommand,
	}
	daemon.Run(context.Background())
}

// Daemon looks after one node.
type Daemon struct {
	Options
	window Window
	lock   Lock
	nodes  Nodes
	host   func(command string) (string, error)
}

// Run comes back from a reboot, if there was one, and then looks again and again.
func (d *Daemon) Run(ctx context.Context) {
	pause(min(firstLook, d.Period))
	for d.settle(ctx) != nil {
		time.Sleep(5 * time.Second)
	}
	for pause(d.Period); ; time.Sleep(d.Period) {
		if err := d.look(ctx, time.Now()); err != nil {
			log.Print(err)
		}
	}
}

// settle ends what this node's lock was taken for.
func (d *Daemon) settle(ctx context.Context) error {
	held, err := d.lock.Held(ctx)
	if err == nil && held != nil && held.NodeID == d.Node {
		if !held.Metadata.Unschedulable {
			err = d.nodes.Cordon(ctx, d.Node, false)
		}
		if err == nil {
			err = d.lock.Release(ctx)
		}
	}
	if err != nil {
		log.Printf("the lock is looked at again: %v", err)
	}
	return err
}

func (d *Daemon) look(ctx context.Context, now time.Time) error {
	if !d.window.Contains(now) {
		return nil
	}
	if said, err := d.host(d.Sentinel); err != nil {
		log.Printf("no reboot now: %v %s", err, said)
		return nil
	}
	cordoned, err := d.nodes.Cordoned(ctx, d.Node)
	if err != nil {
		return err
	}
	holder, err := d.lock.Acquire(ctx, cordoned, now)
	if err != nil {
		return err
	}
	if holder != d.Node {
		return fmt.Errorf("reboot required; the lock is held by %q", holder)
	}
	log.Printf("draining %s", d.Node)
	if err := d.nodes.Drain(ctx, d.Node); err != nil {
		log.Print("not drained: given up for this time")
		return errors.Join(err, d.lock.Release(ctx), d.nodes.Cordon(ctx, d.Node, false))
	}
	log.Printf("rebooting %s", d.Node)
	if said, err := d.host(d.Reboot); err != nil {
		log.Fatalf("no reboot: %v %s", err, said)
	}
	select {} // the machine ends this
}

// hostCommand runs a command among the node's own files.
func hostCommand(command string) (string, error) {
	words := append([]string{"-m/proc/1/ns/mnt", "--"}, strings.Fields(command)...)
	said, err := exec.Command("/usr/bin/nsenter", words...).CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

// pause spreads the nodes' looks: half of the time to one and a half of it.
func pause(d time.Duration) { time.Sleep(d/2 + rand.N(d)) }
