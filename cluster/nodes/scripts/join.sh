#!/usr/bin/env bash
# Makes this host a worker of the cluster, or finds that it is one; ends when the node is Ready.
#
# Every try gets a fresh token from a control plane, whichever is well, over SSH with a key that may do
# nothing else (door.sh).
#
# CLUSTER              name of the cluster, kept as a marker
# NODE                 this node's name
# PROVIDER_ID          what the cloud knows this machine by, if it is a cloud server
# stdin                the control planes and the key to ask them with (peers.sh)
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/peers.sh
source "$(dirname "$(readlink -f "$0")")/peers.sh"
: "${CLUSTER:?}" "${NODE:?}"

KUBELET=/etc/kubernetes/kubelet.conf

node_known() { # by its own credentials: both the certificate and the Node object are still good
  kubectl --kubeconfig="$KUBELET" --request-timeout=10s get node "$NODE"
}

node_ready() {
  [[ $(kubectl --kubeconfig="$KUBELET" --request-timeout=10s get node "$NODE" --output=jsonpath="$1") == True ]]
}

join() {
  if [[ -n $(stage) || -e $KUBELET ]]; then
    step "reset of an unfinished join" "$LIBRARY/leave.sh"
  fi
  put "$STATE/cluster" <<<"$CLUSTER"
  set_stage join
  join_cluster "$CONFIG/join.yaml"
}

(umask 077 && take_peers)
check_ours
systemctl start containerd
if [[ $(stage) == member && -e $KUBELET ]]; then
  systemctl start kubelet
  wait_for 30 "this node's own view of the cluster" node_known || join
else
  join
fi
# shellcheck disable=SC2016 # a jsonpath, not a variable
step "node Ready" wait_for 300 "node $NODE Ready" \
  node_ready '{.status.conditions[?(@.type=="Ready")].status}' ||
  fail "node $NODE is not Ready" "Ready within 300 s" \
    "look at 'journalctl -u kubelet' and 'crictl ps -a' on this host"
