#!/bin/sh
# The unit is gone with its package: no link to it stays.
set -eu
[ "$1" = remove ] || exit 0
rm -f "/etc/systemd/system/multi-user.target.wants/@UNIT@"
[ ! -d /run/systemd/system ] || systemctl daemon-reload
