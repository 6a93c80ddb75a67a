#!/usr/bin/env bash
# Makes this host a node of the cluster, or finds that it is one; ends when the node is Ready.
#
# Every try gets a fresh token from a control plane, over SSH with a key that may do nothing else; the
# token is deleted there as soon as the node has joined.
#
# KUBERNETES_VERSION   exact version
# CLUSTER              name of the cluster, kept as a marker
# NODE                 this node's name
# PROVIDER_ID          what the cloud knows this machine by, if it is a cloud server
# stdin                lines of known_hosts for the control planes, then the private key for mint.sh
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
: "${KUBERNETES_VERSION:?}" "${CLUSTER:?}" "${NODE:?}"

KUBELET=/etc/kubernetes/kubelet.conf

ask() { # REQUEST...: of the control plane; its host key was given by the program
  ssh -F none -T -i "$RUNTIME/join-key" -o BatchMode=yes -o IdentitiesOnly=yes \
    -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$RUNTIME/join-hosts" \
    -o GlobalKnownHostsFile=none -o ConnectTimeout=10 -o LogLevel=ERROR \
    "$(cat "$CONFIG/control-plane")" "$@"
}

mint() { answer=$(ask mint "$NODE"); }

# The cluster's CA came over SSH, with the token: kubeadm trusts it by a file, and need not wait until
# the cluster has signed its public cluster-info with the new token (steps of 5 s).
kubeadm_join() {
  local token ca server
  read -r token ca server <<<"$answer"
  umask 077
  sed -e "s|@CA@|$ca|" -e "s|@SERVER@|$server|" "$CONFIG/discovery.yaml" >"$RUNTIME/discovery.yaml"
  sed -e "s|@TOKEN@|$token|" -e "s|@PROVIDER_ID@|${PROVIDER_ID:-}|" "$CONFIG/join.yaml" >"$RUNTIME/join.yaml"
  kubeadm join --config="$RUNTIME/join.yaml"
}

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
  wait_for_address
  step "token from $(cat "$CONFIG/control-plane")" retry 120 mint ||
    fail "no token from $(cat "$CONFIG/control-plane")" "SSH from this host to the control plane" \
      "open the control plane's SSH port to this host's address"
  step "kubeadm join" kubeadm_join
  set_stage member
  ask forget "${answer%%.*}" || say "the token was not deleted; it ends by itself in 15 minutes"
}

forget_secrets() { rm -f "$RUNTIME"/{join-key,join-hosts,join.yaml,discovery.yaml}; }
take_login() {
  local login
  login=$(cat)
  printf '%s\n' "${login%%-----BEGIN*}" >"$RUNTIME/join-hosts"
  printf '%s\n' "-----BEGIN${login#*-----BEGIN}" >"$RUNTIME/join-key"
}
(umask 077 && take_login)
refuse_foreign_cluster
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
