# shellcheck shell=bash
# What a control plane knows and does about its cluster. Sourced after lib.sh, never run.
#
# It speaks to its own API server, not to the shared endpoint: who asks this control plane wants to know
# whether this one is well.

PKI=/etc/kubernetes/pki
ETCD_PKI=$PKI/etcd
# What makes the cluster this one; below PKI. All other certificates are made from these.
export CLUSTER_KEYS=(ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key)
# Where this host has it: one of an older cluster gets it as that is brought up to date.
[[ ! -e $PKI/encryption.yaml ]] || CLUSTER_KEYS+=(encryption.yaml)

kubectl_here() {
  kubectl --kubeconfig="$ADMIN" --server="https://$(cat "$CONFIG/internal-address"):6443" "$@"
}

kube() { kubectl_here --request-timeout=10s "$@"; }

api_ready() { kube get --raw=/readyz; }

etcdctl_at() { # ADDRESS COMMAND...
  local container address=$1
  shift
  container=$(crictl ps --name='^etcd$' --state=Running --quiet | head -n 1)
  crictl exec "$container" etcdctl --endpoints="https://$address:2379" --cacert="$ETCD_PKI/ca.crt" \
    --cert="$ETCD_PKI/server.crt" --key="$ETCD_PKI/server.key" --command-timeout=5s "$@"
}
etcdctl_here() { etcdctl_at 127.0.0.1 "$@"; }

# members: lines "ID NAME PEER-URL"; a member that has never started has no name.
members() { etcdctl_here member list | awk -F', ' '{print $1, ($3 == "" ? "-" : $3), $4}'; }

# forget_member NODE ADDRESS: etcd itself refuses where the others would have no quorum.
forget_member() {
  local list id name peer
  list=$(members) || return 1
  while read -r id name peer; do
    [[ $name == "$1" || $peer == "https://$2:2380" ]] || continue
    etcdctl_here member remove "$id" >&2 || return 1
  done <<<"$list"
}

node_address() { # NODE: nothing where there is no such Node
  kube get node "$1" --ignore-not-found \
    --output=jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}'
}

# kured's lock is an annotation of its DaemonSet, with the name of the node that is rebooted (its pkg/daemonsetlock).
REBOOT_LOCK=weave.works/kured-node-lock
NOT_A_NODE="(own-kubernetes)"

reboot_lock() { # prints "VERSION LOCK", the DaemonSet's version first; nothing where there is no kured
  kube get daemonset kured --namespace=kured --ignore-not-found \
    --output=jsonpath="{.metadata.resourceVersion} {.metadata.annotations.${REBOOT_LOCK//./\\.}}"
}

set_reboot_lock() { # "LOCK", or nothing [FLAG...]
  local value=${1:+=$1}
  shift
  kube annotate daemonset kured --namespace=kured --overwrite "$@" "$REBOOT_LOCK${value:--}" >&2
}

# hold_reboots SECONDS: takes the lock for that long; fails while a node is rebooted. It is taken in no node's name,
# so that no kured gives it back, and runs out by itself: several of ours may have it at the same time.
hold_reboots() {
  local found version lock
  found=$(reboot_lock) || return 1
  [[ -n $found ]] || return 0
  read -r version lock <<<"$found"
  [[ -z $lock || $lock == *"\"$NOT_A_NODE\""* ]] || return 1
  lock="{\"nodeID\":\"$NOT_A_NODE\",\"metadata\":{},\"created\":\"$(date --utc +%FT%TZ)\",\"TTL\":${1}000000000}"
  set_reboot_lock "$lock" --resource-version="$version"
}

# A Node that went down for a reboot and never came back has the lock for ever.
delete_node() { # NODE
  kube delete node "$1" --ignore-not-found --timeout=60s >&2
  [[ $(reboot_lock) != *"\"nodeID\":\"$1\""* ]] || set_reboot_lock ""
}

# forget_dead_strangers WANTED: control planes that the stack file has no more (WANTED: the names it has, with
# commas) and that are dead. Where one is, kubeadm lets no other join: it wants every member to be well.
forget_dead_strangers() {
  local list id name peer address
  list=$(members) || return 1
  while read -r id name peer; do
    address=${peer#https://}
    address=${address%:*}
    [[ ,$1, != *,$name,* ]] || continue
    ! etcdctl_at "$address" endpoint health >/dev/null 2>&1 || continue
    say "control plane $name ($address) is not wanted any more and dead: its etcd member and Node go"
    etcdctl_here member remove "$id" >&2 || return 1
    [[ $name == - ]] || delete_node "$name"
  done <<<"$list"
}

# drain_node NODE SECONDS [FLAG...]: its pods go as their disruption budgets allow, while kured reboots none. Of a
# node that is not Ready nobody would end the pods: Kubernetes itself replaces them.
drain_node() {
  local node=$1 bound=$2 ready
  shift 2
  ready=$(kube get node "$node" --output=jsonpath='{.status.conditions[?(@.type=="Ready")].status}') || return 1
  if [[ $ready == True ]]; then
    wait_for 900 "the end of a reboot by kured: $(reboot_lock)" hold_reboots "$((bound + 1800))" || return 1
  fi
  kube cordon "$node" >&2 || return 1
  [[ $ready == True ]] || { say "node $node is not Ready: nothing is drained there"; return 0; }
  kubectl_here drain "$node" --ignore-daemonsets --delete-emptydir-data --timeout="${bound}s" "$@" >&2
}

# The oldest kubelet of a control plane, which is the last thing of one that an upgrade changes: "1.36.4".
oldest_control_plane() {
  kube get nodes --selector=node-role.kubernetes.io/control-plane \
    --output=jsonpath='{range .items[*]}{.status.nodeInfo.kubeletVersion}{"\n"}{end}' |
    sed 's/^v//' | sort --version-sort | head -n 1
}
