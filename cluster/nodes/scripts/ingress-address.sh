#!/usr/bin/env bash
# Prints the address that the ingress controller's Service was given, which nothing else tells without a page.
#
# NAMESPACE, SERVICE   the Service
# POOLS                where its address is from; only runs this phase again
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

address() {
  kubectl --kubeconfig="$ADMIN" --request-timeout=10s --namespace="$NAMESPACE" get service "$SERVICE" \
    --output=jsonpath='{.status.loadBalancer.ingress[0].ip}'
}
has_address() { [[ $(address) ]]; }

wait_for 180 "an address for the Service $SERVICE" has_address ||
  fail "the Service $SERVICE has no address" "one of loadBalancerPools within 180 s" \
    "look at the events of the Service in namespace $NAMESPACE"
address
echo
