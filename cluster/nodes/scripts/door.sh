#!/usr/bin/env bash
# door.sh ROLE REQUEST: all that another host of the cluster may ask of a control plane, through the keys of
# admit.sh. Whoever has a worker's key can do what follows, and no more:
#   cluster                    the cluster's name, where this host is a member, else "none"
#   mint NODE ADDRESS VERSION  a bootstrap token that lives 15 minutes: prints "TOKEN CA-CERTIFICATE SERVER"; or
#                              "older VERSION" while a control plane is older than the host that asks
#   open ADDRESS               lets a host that is about to join reach the API server
#   forget TOKEN-ID            deletes a token made here, once it has been used
#   drain NODE SECONDS         before an upgrade of that node
#   uncordon NODE              after it
# A control plane's key may ask for this too:
#   keys                       the cluster's own keys and certificates, as a tar archive in base64
#   bury NAME,NAME...          control planes that are none of these, and dead: their etcd members and Nodes go
#   encryption                 names of the keys for Secrets in etcd, as the API server has loaded them
#   encryption take            other ones, from stdin (encryption.sh)
# It ends with 75 where this control plane is not well and another one has to be asked.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"
# shellcheck source=cluster/nodes/scripts/encryption-keys.sh
source "$(dirname "$(readlink -f "$0")")/encryption-keys.sh"
export KUBECONFIG=$ADMIN
DESCRIPTION="own-kubernetes: a join of" # and the node's name

# A kubelet that joins before certificates are signed goes on without one for 5 s, and then finds its first
# pods waiting for caches that are in a long back-off: better to join a moment later.
controllers_run() {
  [[ -n $(kube get nodes --output=jsonpath='{.items[0].spec.podCIDR}') ]]
}

# A host that joins is no node yet: a Node or etcd member of its name is that of a machine that is gone, and
# would keep its old pod network and provider ID, or count in etcd's quorum. One whose kubelet still answers is
# somebody else's, and kubeadm refuses it.
forget_dead_node() { # NODE ADDRESS
  local before
  before=$(node_address "$1")
  [[ -z $before ]] || ! timeout 3 bash -c "</dev/tcp/$before/10250" 2>/dev/null || return 0
  [[ $role != control-plane ]] || forget_member "$1" "$2"
  [[ -z $before ]] || delete_node "$1"
}

mint() { # NODE ADDRESS VERSION
  local token ca endpoint oldest
  # During an upgrade a new node waits for the control planes: a kubelet must not be newer than they are.
  oldest=$(oldest_control_plane)
  if [[ $(printf '%s\n' "$oldest" "$3" | sort --version-sort | tail -n 1) != "$oldest" ]]; then
    printf 'older %s\n' "$oldest"
    return
  fi
  wait_for 60 "the controller manager" controllers_run || true
  forget_dead_node "$1" "$2"
  token=$(kubeadm token create --ttl=15m --description="$DESCRIPTION $1")
  ca=$(base64 --wrap=0 "$PKI/ca.crt")
  endpoint=$(awk '$1 == "server:" {print $2}' "$ADMIN")
  printf '%s %s %s\n' "$token" "$ca" "$endpoint"
}

DESCRIPTIONS='{{range .items}}{{.metadata.name}} {{with .data.description}}{{base64decode .}}{{end}}{{"\n"}}{{end}}'

forget() { # TOKEN-ID: and those of earlier tries of the same node
  local tokens spent
  tokens=$(kube --namespace=kube-system get secrets --output=go-template="$DESCRIPTIONS" \
    --field-selector=type=bootstrap.kubernetes.io/token)
  mapfile -t spent < <(awk -v id="bootstrap-token-$1" -v ours="$DESCRIPTION " '
    { name = $1; sub(/^[^ ]+ /, ""); of[name] = $0 }
    END { for (name in of) if (of[name] == of[id] && index(of[id], ours) == 1) print name }' <<<"$tokens")
  ((${#spent[@]} == 0)) || kube --namespace=kube-system delete secret "${spent[@]}" --ignore-not-found >&2
}

role=$1
request=${SSH_ORIGINAL_COMMAND:-${2:-}}
node='[a-z0-9]([a-z0-9-]*[a-z0-9])?'
address='[0-9]{1,3}(\.[0-9]{1,3}){3}'
version='[0-9]+\.[0-9]+\.[0-9]+'
if [[ $request == cluster ]]; then
  if [[ $(stage) == member ]]; then cat "$STATE/cluster"; else printf 'none\n'; fi
  exit
fi
[[ $(stage) == member ]] && api_ready >/dev/null 2>&1 || exit "$NOT_WELL"
if [[ $request =~ ^mint\ ($node)\ ($address)\ ($version)$ ]]; then
  mint "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}" "${BASH_REMATCH[5]}"
elif [[ $request =~ ^open\ ($address)$ ]]; then
  "$LIBRARY/firewall.sh" open "${BASH_REMATCH[1]}"
elif [[ $request =~ ^forget\ ([a-z0-9]{6})$ ]]; then
  forget "${BASH_REMATCH[1]}"
elif [[ $request =~ ^drain\ ($node)\ ([0-9]{1,4})$ ]]; then
  drain_node "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}"
elif [[ $request =~ ^uncordon\ ($node)$ ]]; then
  kube uncordon "${BASH_REMATCH[1]}" >&2
elif [[ $request =~ ^bury\ ([a-z0-9,-]+)$ && $role == control-plane ]]; then
  forget_dead_strangers "${BASH_REMATCH[1]}"
elif [[ $request == keys && $role == control-plane ]]; then
  tar --create --directory="$PKI" "${CLUSTER_KEYS[@]}" | base64 --wrap=0
elif [[ $request == encryption && $role == control-plane ]]; then
  cat "$LOADED" 2>/dev/null || true
elif [[ $request == "encryption take" && $role == control-plane ]]; then
  take_encryption
else
  fail "request '$request' of a $role" "one that this key may make" \
    "this key is for hosts of the cluster only"
fi
