#!/bin/sh
# Enables and starts the package's service, as packages of services do; in a tree that no systemd
# runs (an image being built) it is enabled only.
set -eu
[ "$1" = configure ] || exit 0
systemctl enable --quiet "@UNIT@"
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl restart --no-block "@UNIT@"
