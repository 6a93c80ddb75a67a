#!/usr/bin/env bash
# All that a joining host may ask of a control plane, through the restricted key of admit.sh:
#   mint                a bootstrap token that lives 15 minutes: prints "TOKEN CA-CERT-HASH ENDPOINT"
#   forget TOKEN-ID     deletes a token made here, once it has been used
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
export KUBECONFIG=$ADMIN
DESCRIPTION="own-kubernetes: one join"

mint() {
  local token hash endpoint
  token=$(kubeadm token create --ttl=15m --description="$DESCRIPTION")
  # Until cluster-info is signed with it, a join would wait in steps of 5 s.
  wait_for 10 "a signature for the token" signed "${token%%.*}" || true
  hash=$(openssl x509 -in /etc/kubernetes/pki/ca.crt -noout -pubkey |
    openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1)
  endpoint=$(awk '$1 == "server:" {sub("https://", "", $2); print $2}' "$ADMIN")
  printf '%s sha256:%s %s\n' "$token" "$hash" "$endpoint"
}

signed() {
  [[ -n $(kubectl --namespace=kube-public get configmap cluster-info \
    --output=jsonpath="{.data.jws-kubeconfig-$1}") ]]
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
