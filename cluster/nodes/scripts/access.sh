#!/usr/bin/env bash
# Prints, as one JSON object, what the program needs of a control plane: the administrator's kubeconfig.
#
# RENEWAL   changes when certificates were renewed
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

printf '{"kubeconfig": "%s"}\n' "$(base64 --wrap=0 "$ADMIN")"
