#!/bin/sh
# Stops the service before its command goes.
set -eu
[ "$1" = remove ] || exit 0
[ ! -d /run/systemd/system ] || systemctl stop "@UNIT@"
