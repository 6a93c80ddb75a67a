#!/usr/bin/env bash
# Waits until MetalLB's admission webhook takes an address pool: it answers some seconds after its pod is
# ready, and the API server refuses pools until then. Nothing is made (a server-side dry run).
#
# POOL   the pool that is about to be made or changed; only runs this phase again
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

pool='{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
  "metadata": {"name": "own-kubernetes-probe", "namespace": "metallb-system"},
  "spec": {"addresses": ["192.0.2.1/32"], "autoAssign": false}}'
probe() { kubectl --kubeconfig="$ADMIN" --request-timeout=10s create --dry-run=server -f - <<<"$pool"; }

step "MetalLB's webhook" wait_for 180 "MetalLB's webhook" probe ||
  { probe || true; fail "MetalLB's webhook does not answer" "an answer within 180 s" \
    "look at the pods of namespace metallb-system"; }
