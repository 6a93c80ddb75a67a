#!/usr/bin/env bash
# All that a joining host may ask of a control plane, through the restricted key of admit.sh:
#   mint                a bootstrap token that lives 15 minutes: prints "TOKEN CA-CERTIFICATE SERVER"
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

mint() {
  local token ca endpoint
  wait_for 60 "the controller manager" controllers_run || true
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
case $request in
  mint) mint ;;
  forget\ [a-z0-9][a-z0-9][a-z0-9][a-z0-9][a-z0-9][a-z0-9]) forget "${request#forget }" ;;
  *) fail "request '$request'" "mint or forget" "this key is for joining hosts only" ;;
esac
