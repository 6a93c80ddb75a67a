package main

import (
	"fmt"
	"regexp"
)

// Tuning is what the ConfigMap of -nginx-configmaps says; nothing of it has to be there.
type Tuning struct {
	StatusAddress  string // what Ingresses report in place of the Service's addresses
	ConnectTimeout string // in nginx' terms; nginx' own default without it
}

var duration = regexp.MustCompile(`^[0-9]+(ms|s|m|h)?$`)

// ReadTuning takes the keys that mean something here. The second result says what was left out: a site
// must not believe that it has what it wrote.
func ReadTuning(data map[string]string) (Tuning, []string) {
	var tuning Tuning
	var problems []string
	for _, key := range sortedKeys(data) {
		value := data[key]
		switch {
		case key == "external-status-address":
			tuning.StatusAddress = value
		case key == "proxy-connect-timeout" && duration.MatchString(value):
			tuning.ConnectTimeout = value
		case key == "proxy-connect-timeout":
			problems = append(problems, fmt.Sprintf("ConfigMap: %s %q: want a number and ms, s, m or h", key, value))
		default:
			problems = append(problems, fmt.Sprintf("ConfigMap: %s: this stand-in does not have it", key))
		}
	}
	return tuning, problems
}
