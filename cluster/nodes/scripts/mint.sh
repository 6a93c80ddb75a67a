#!/usr/bin/env bash
# All that a joining host may ask of a control plane, through the restricted key of admit.sh:
#   mint NODE           a bootstrap token that lives 15 minutes: prints "TOKEN CA-CERTIFICATE SERVER"
#   forget TOKEN-ID     deletes a token made here, once it has been used
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
export KUBECONFIG=$ADMIN
DESCRIPTION="own-kubernetes: one join"

# A kubelet that joins before certificates are signed goes on without one for 5 s, and then finds its first
# pods waiting for caches that are in a long back-off: better to join a moment later.
controllers_run() {
  [[ -n $(kubectl get nodes --output=jsonpath='{.items[0].spec.podCIDR}') ]]
}

# A host that joins is no node yet: a Node of its name is that of a machine that is gone, and would keep its
# old pod network and provider ID. One whose kubelet still answers is somebody else's, and kubeadm refuses it.
forget_dead_node() {
  local address
  address=$(kubectl get node "$1" --ignore-not-found \
    --output=jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
  [[ -n $address ]] || return 0
  ! timeout 3 bash -c "</dev/tcp/$address/10250" 2>/dev/null || return 0
  kubectl delete node "$1" --timeout=60s >&2
}

mint() {
  local token ca endpoint
  wait_for 60 "the controller manager" controllers_run || true
  forget_dead_node "$1"
  token=$(kubeadm token create --ttl=15m --description="$DESCRIPTION")
  ca=$(base64 --wrap=0 /etc/kubernetes/pki/ca.crt)
  endpoint=$(awk '$1 == "server:" {print $2}' "$ADMIN")
  printf '%s %s %s\n' "$token" "$ca" "$endpoint"
}

forget() {
  local secret=bootstrap-token-$1 description
  description=$(kubectl --namespace=kube-system get secret "$secret" --ignore-not-found \
    --output=jsonpath='{.data.description}' | base64 --decode)
  [[ $description == "$DESCRIPTION" ]] || exit 0
  kubectl --namespace=kube-system delete secret "$secret" --ignore-not-found >&2
}

request=${SSH_ORIGINAL_COMMAND:-${*:-}}
if [[ $request =~ ^mint\ ([a-z0-9]([a-z0-9-]*[a-z0-9])?)$ ]]; then
  mint "${BASH_REMATCH[1]}"
elif [[ $request =~ ^forget\ ([a-z0-9]{6})$ ]]; then
  forget "${BASH_REMATCH[1]}"
else
  fail "request '$request'" "mint NODE or forget ID" "this key is for joining hosts only"
fi
