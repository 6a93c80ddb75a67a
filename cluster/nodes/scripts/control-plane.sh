#!/usr/bin/env bash
# Makes this host a control plane of the cluster, or finds that it is one.
#
# Where the cluster is, this host joins it; where it is not, the first control plane of the stack file makes
# it, but only when every other one has answered that it is no member: one that can't be asked may be all that
# is left of the cluster. Given a snapshot, it makes the cluster from that. What an earlier try of ours left
# unfinished is reset and done again; a finished one is adopted; anybody else's cluster is refused, untouched.
#
# CLUSTER              name of the cluster, kept as a marker
# NODE                 this node's name
# PROVIDER_ID          what the cloud knows this machine by, if it is a cloud server
# SCHEDULABLE          true: workloads and load balancers may use this node
# RECOVERY             digest of the snapshot to make a lost cluster from (recovery.sh), if there is one
# stdin                the control planes and the keys between hosts (peers.sh)
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/peers.sh
source "$(dirname "$(readlink -f "$0")")/peers.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"
# shellcheck source=cluster/nodes/scripts/packages.sh
source "$(dirname "$(readlink -f "$0")")/packages.sh"
# shellcheck source=cluster/nodes/scripts/encryption-keys.sh
source "$(dirname "$(readlink -f "$0")")/encryption-keys.sh"
# shellcheck source=cluster/nodes/scripts/recovery.sh
source "$(dirname "$(readlink -f "$0")")/recovery.sh"
: "${CLUSTER:?}" "${NODE:?}" "${SCHEDULABLE:?}"

UNREACHED=$RUNTIME/unreached # what those say that can't be asked, in the last look around

# asked_for_cluster USER ADDRESS PORT: prints the name that a host answers with, or "none". Only members let
# our key in. A host that can't be reached, is another one by its key or can't answer (a broken sudo) tells
# nothing, which is an error.
asked_for_cluster() {
  local said status=0
  said=$(ask_one "$1" "$2" "$3" cluster 2>&1) || status=$?
  if ((status == 0)); then
    printf '%s\n' "$said"
  elif ((status == 255)) && [[ $said == *"Permission denied"* ]]; then
    printf 'none\n'
  else
    printf '%s port %s: %s\n' "$2" "$3" "${said##*$'\n'}" >>"$UNREACHED"
    return 1
  fi
}

# The cluster's name, as any other control plane answers; "none" where each has said that it is no member.
cluster_elsewhere() {
  local name user address port said unknown=false
  : >"$UNREACHED"
  while read -r name user address port <&4; do
    [[ $name != "$NODE" ]] || continue
    said=$(asked_for_cluster "$user" "$address" "$port") || { unknown=true; continue; }
    [[ $said != "$CLUSTER" ]] || { printf '%s\n' "$said"; return; }
  done 4<"$PEERS"
  [[ $unknown == true ]] || printf 'none\n'
}

# A founder asks until all have answered: at first, some hosts may still be booting.
look_around() {
  elsewhere=$(cluster_elsewhere)
  [[ -n $elsewhere ]] && { [[ $elsewhere == "$CLUSTER" ]] || is_first; }
}

is_first() { [[ $(awk 'NR == 1 {print $1}' "$PEERS") == "$NODE" ]]; }

kubeadm_init() { # [FLAG...]
  sed -e "s/^kubernetesVersion:.*/kubernetesVersion: v$(kubeadm_version)/" \
    -e "s|@PROVIDER_ID@|${PROVIDER_ID:-}|" "$CONFIG/init.yaml" >"$RUNTIME/init.yaml"
  with_images kubeadm init --config="$RUNTIME/init.yaml" --skip-token-print "$@"
}

begin() { # STAGE
  [[ -z $(stage) ]] || step "reset of an unfinished $(stage)" "$LIBRARY/leave.sh"
  put "$STATE/cluster" <<<"$CLUSTER"
  set_stage "$1"
}

recovering() { [[ -n ${RECOVERY:-} ]]; }

initialise() {
  begin init
  wait_for_address
  share_address
  hold_address
  if recovering; then
    say "cluster $CLUSTER is nowhere: it is made from the snapshot"
    bring_back
    start_encryption # where the snapshot has no key, nothing in it is encrypted
    step "kubeadm init" kubeadm_init --ignore-preflight-errors=DirAvailable--var-lib-etcd
    step "former control planes forgotten" renew_nodes
  else
    start_encryption key
    step "kubeadm init" kubeadm_init
  fi
  # kubeadm makes a token at init; nobody here uses it.
  kube --namespace=kube-system delete secret --field-selector=type=bootstrap.kubernetes.io/token >&2
  put "$APPLIED" <"$CONFIG/settings" # kubeadm has just given them to the cluster and to this node
  encryption_is_loaded
  set_stage member
}

# keepalived gives the shared address to a control plane that is well (virtual-address.conf).
share_address() {
  [[ ! -e $CONFIG/virtual-address ]] || systemctl enable --quiet --now keepalived
}

# Before any is well the first one takes it by itself, as kubeadm calls its own API server by it.
hold_address() {
  local address
  address=$(cat "$CONFIG/virtual-address" 2>/dev/null) || return 0
  ip address replace "$address/32" dev "$(device_of "$(cat "$CONFIG/internal-address")")"
}

take_cluster_keys() {
  local keys
  keys=$(ask keys)
  install -d -m 0755 "$ETCD_PKI"
  (umask 077 && base64 --decode <<<"$keys" | tar --extract --directory="$PKI" --no-same-owner)
}

join_as_control_plane() {
  begin join
  step "the cluster's keys" retry 60 take_cluster_keys ||
    fail "no control plane gives the cluster's keys" "SSH from this host to one that is well" \
      "open the control planes' SSH port to this host's address"
  start_encryption
  ask "bury $(awk '{print $1}' "$PEERS" | paste --serial --delimiters=,)"
  join_cluster "$CONFIG/join.yaml"
  encryption_is_loaded
}

become_member() {
  wait_for 300 "an answer of every other control plane" look_around || {
    is_first || fail "cluster $CLUSTER is nowhere" "a control plane that is a member of it" \
      "see why the first control plane, $(awk 'NR == 1 {print $1}' "$PEERS"), did not make it"
    cat "$UNREACHED" >&3
    fail "not every other control plane could be asked whether cluster $CLUSTER is there" \
      "an answer over SSH from each, with the configured host key" \
      "mend the connection, or take the control plane that is gone out of the stack file"
  }
  if [[ $elsewhere == "$CLUSTER" ]]; then join_as_control_plane; else initialise; fi
}

resume() {
  start_encryption
  systemctl start containerd kubelet
  step "API server" wait_for 180 "the API server of $(hostname)" api_ready
}

# A control plane carries a label that keeps load balancers away from it, and a taint that keeps pods away
# (kubeadm sets both as the node joins); the setting may change later.
open_for_workloads() {
  local label=node.kubernetes.io/exclude-from-external-load-balancers taint=node-role.kubernetes.io/control-plane
  if [[ $SCHEDULABLE == true ]]; then
    kube label node "$NODE" "$label-"
    kube taint node "$NODE" "$taint:NoSchedule-" || true # it is not there
  else
    kube label node "$NODE" "$label=" --overwrite
    kube taint node "$NODE" "$taint:NoSchedule" --overwrite
  fi
}

(umask 077 && take_peers)
check_ours
systemctl start containerd
if [[ $(stage) == member ]]; then resume; else become_member; fi
wait_for 120 "the API server of $(hostname)" api_ready ||
  fail "the API server does not answer" "a healthy API server" \
    "look at 'crictl ps -a' and 'journalctl -u kubelet' on this host"
rm -rf "$STATE/recovery" # it has served, or is not needed
step "labels and taints" open_for_workloads
share_address
"$LIBRARY/admit.sh" <"$ADMITTED"
"$LIBRARY/firewall.sh" follow
