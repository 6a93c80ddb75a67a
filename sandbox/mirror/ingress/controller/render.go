package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
)

//go:embed nginx.conf.tmpl
var source string

var configuration = template.Must(template.New("nginx.conf").Option("missingkey=error").Parse(source))

// Layout is what the flags fix: where nginx writes and where it listens.
type Layout struct {
	Dir       string
	HTTPPort  int
	HTTPSPort int
	IPv6      bool
	HealthURI string
}

// Render gives the text of nginx.conf; Version tells one configuration from the next.
func Render(layout Layout, site Site, defaultPair, version string) (string, error) {
	var out bytes.Buffer
	err := configuration.Execute(&out, struct {
		Layout
		Site                    Site
		DefaultPair, Version    string
		HTTPListen, HTTPSListen []string
	}{layout, site, defaultPair, version, layout.listen(layout.HTTPPort), layout.listen(layout.HTTPSPort)})
	return out.String(), err
}

func (l Layout) listen(port int) []string {
	addresses := []string{fmt.Sprint(port)}
	if l.IPv6 {
		addresses = append(addresses, fmt.Sprintf("[::]:%d", port))
	}
	return addresses
}
