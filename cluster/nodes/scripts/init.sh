#!/usr/bin/env bash
# Makes this host the control plane of a new cluster, or finds that it is.
#
# What an earlier try of ours left unfinished is reset and done again; a finished one is adopted; anybody
# else's cluster is refused, untouched.
#
# KUBERNETES_VERSION   exact version
# CLUSTER              name of the cluster, kept as a marker
# NODE                 this node's name
# PROVIDER_ID          what the cloud knows this machine by, if it is a cloud server
# SCHEDULABLE          true: workloads and load balancers may use this node
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
: "${KUBERNETES_VERSION:?}" "${CLUSTER:?}" "${NODE:?}" "${SCHEDULABLE:?}"

kubectl_admin() { kubectl --kubeconfig="$ADMIN" --request-timeout=10s "$@"; }

api_ready() { kubectl_admin get --raw=/readyz; }

check_ours() {
  refuse_foreign_cluster
  local found
  found=$(cat "$STATE/cluster" 2>/dev/null || true)
  [[ -z $found || $found == "$CLUSTER" ]] ||
    fail "this host belongs to our cluster '$found'" "a host of cluster '$CLUSTER'" \
      "destroy the other stack first, or take this host out of it"
}

kubeadm_init() {
  # The version is a value of its own, so that an upgrade reads as one short line in a preview.
  sed -e "s/^kubernetesVersion:.*/kubernetesVersion: v$KUBERNETES_VERSION/" \
    -e "s|@PROVIDER_ID@|${PROVIDER_ID:-}|" "$CONFIG/init.yaml" >"$RUNTIME/init.yaml"
  kubeadm init --config="$RUNTIME/init.yaml" --skip-token-print
}

initialise() {
  if [[ $(stage) == init ]]; then
    step "reset of an unfinished init" "$LIBRARY/leave.sh"
  fi
  put "$STATE/cluster" <<<"$CLUSTER"
  set_stage init
  wait_for_address
  step "kubeadm init" kubeadm_init
  # kubeadm makes a token at init; nobody here uses it.
  kubectl_admin --namespace=kube-system delete secret \
    --field-selector=type=bootstrap.kubernetes.io/token >&2
  set_stage member
}

resume() {
  systemctl start containerd kubelet
  step "API server" wait_for 180 "the API server of $(hostname)" api_ready
}

# A control plane carries a label that keeps load balancers away from it (kubeadm sets it).
open_for_workloads() {
  [[ $SCHEDULABLE == true ]] || return 0
  kubectl_admin label node "$NODE" node.kubernetes.io/exclude-from-external-load-balancers- >&2
}

check_ours
if [[ $(stage) == member ]]; then resume; else initialise; fi
wait_for 60 "the API server of $(hostname)" api_ready ||
  fail "the API server does not answer" "a healthy API server" \
    "look at 'crictl ps -a' and 'journalctl -u kubelet' on this host"
open_for_workloads
"$LIBRARY/admit.sh"
