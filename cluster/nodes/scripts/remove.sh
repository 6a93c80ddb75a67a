#!/usr/bin/env bash
# Takes a node out of the cluster, from a control plane that stays: cordon, drain, etcd member, Node. What is gone
# already is passed over, so that it may be run again at any point. The host itself is reset, or deleted, after.
#
# NODE            the node's name
# DRAIN_SECONDS   bound on the drain
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"
: "${NODE:?}" "${DRAIN_SECONDS:?}"

[[ $(stage) == member ]] || exit "$NO_CLUSTER"
wait_for 15 "this control plane's API server" api_ready || exit "$NOT_WELL"
address=$(node_address "$NODE")
if [[ -n $address ]]; then
  # Pods that nothing replaces go too: the node is taken away on purpose.
  step "drain of $NODE" drain_node "$NODE" "$DRAIN_SECONDS" --force ||
    fail "node $NODE is not drained after $DRAIN_SECONDS s; it stays cordoned" \
      "every pod evicted within its disruption budget" \
      "give the pods named above more replicas or a wider budget, or raise drainTimeoutSeconds, and run 'pulumi up' again"
fi
step "etcd member $NODE" forget_member "$NODE" "${address:-none}" ||
  fail "etcd does not let the member of $NODE go" "a majority of members that are well without it" \
    "bring the other control planes back first, then run 'pulumi up' again"
step "Node $NODE" delete_node "$NODE"
