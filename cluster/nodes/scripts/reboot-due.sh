#!/usr/bin/env bash
# kured's question (--reboot-sentinel-command): is this node to be rebooted now? Yes (0), if an update asks for it
# and the cluster is whole: every Node Ready, and all of every control plane. So a node that does not come back
# stays the only one, and none goes while another is down for any other reason.
#
# kured runs this among the host's files, in its pod's network, and with the pod's token: a worker's kubelet may
# not look at other Nodes. 1 is "no need", which kured passes over; what it finds else it puts into its log.
set -euo pipefail

[[ -e /run/reboot-required ]] || exit 1

work=$(mktemp --directory /run/own-kubernetes-reboot.XXXXXX)
trap 'rm -rf "$work"' EXIT
cat >"$work/kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
  - name: own
    cluster:
      server: https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT
      certificate-authority: /etc/kubernetes/pki/ca.crt
users: [{name: kured, user: {tokenFile: /proc/$PPID/root/credentials/token}}]
contexts: [{name: kured, context: {cluster: own, user: kured}}]
current-context: kured
END

# conditions WORDS...: a line "NAME STATUS" for each that kubectl gets by these words.
conditions() {
  kubectl --kubeconfig="$work/kubeconfig" --cache-dir="$work" --request-timeout=10s get "$@" \
    --output=jsonpath='{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
}

seen=$(conditions nodes && conditions pods --namespace=kube-system --selector=tier=control-plane) || exit 2
waiting=$(awk 'NF && $2 != "True" {print $1}' <<<"$seen" | xargs)
[[ -z $waiting ]] || { echo "a reboot is due, but not Ready are: $waiting"; exit 2; }
