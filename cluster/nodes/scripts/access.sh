#!/usr/bin/env bash
# Prints, as one JSON object, what the program needs of a control plane: the administrator's kubeconfig and
# the secrets of admit.sh.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

encode() { base64 --wrap=0 "$1"; }
printf '{"kubeconfig": "%s", "joinKey": "%s", "memberlistKey": "%s"}\n' \
  "$(encode "$ADMIN")" "$(encode "$STATE/join-key")" "$(encode "$STATE/memberlist-key")"
