#!/usr/bin/env bash
# Waits until an admission webhook takes what it is to look at: it answers some seconds after its pod is ready,
# and the API server refuses such objects until then. Nothing is made (a server-side dry run).
#
# OF     whose: metallb (default) or cert-manager
# POOL   the pool that is about to be made or changed; only runs this phase again
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

case ${OF:-metallb} in
  metallb)
    whose=MetalLB namespace=metallb-system
    object='{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
      "metadata": {"name": "own-kubernetes-probe", "namespace": "metallb-system"},
      "spec": {"addresses": ["192.0.2.1/32"], "autoAssign": false}}'
    ;;
  cert-manager)
    whose=cert-manager namespace=cert-manager
    object='{"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer",
      "metadata": {"name": "own-kubernetes-probe"}, "spec": {"selfSigned": {}}}'
    ;;
esac
probe() { kubectl --kubeconfig="$ADMIN" --request-timeout=10s create --dry-run=server -f - <<<"$object"; }

step "$whose's webhook" wait_for 180 "$whose's webhook" probe ||
  { probe || true; fail "$whose's webhook does not answer" "an answer within 180 s" \
    "look at the pods of namespace $namespace"; }
