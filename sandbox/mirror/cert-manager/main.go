// The commands of cert-manager's images, from its own libraries: what runs is cert-manager's, but for this file.
//
// Its commands are modules of their own that the module proxy has not. Left out: ACME, which no sandbox reaches,
// and the election of leaders, as each runs once here. Flags of the chart that say nothing to these are passed over.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"

	logf "github.com/cert-manager/cert-manager/pkg/logs"
)

var commands = map[string]func(context.Context, []string) error{
	"cainjector": runInjector,
	"controller": runController,
	"webhook":    runWebhook,
}

func main() {
	name := filepath.Base(os.Args[0])
	run, known := commands[name]
	if !known {
		fmt.Fprintf(os.Stderr, "no command of cert-manager: %s\n", name)
		os.Exit(2)
	}
	ctrl.SetLogger(logf.Log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(logf.NewContext(ctx, logf.Log, name), os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func newFlags(name string) *pflag.FlagSet {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	return flags
}
