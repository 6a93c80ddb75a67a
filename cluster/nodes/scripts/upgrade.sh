#!/usr/bin/env bash
# Brings this node to a Kubernetes version, to the cluster's kubelet settings and, if that is wanted, to new
# certificates: one node at a time, as the program orders them. Does nothing where all is there; a run that
# broke off is gone on with. Prints, on a control plane, when the first of its certificates expires.
#
# KUBERNETES_VERSION   exact version; another one than is here drains the node
# SETTINGS             digest of the settings for kubelets and kube-proxy
# RENEWAL              any word; another one than last time renews the certificates of a control plane
# CLUSTER              name of the cluster
# NODE                 this node's name
# ROLE                 control-plane or worker
# DRAIN_SECONDS        bound on the drain
# stdin                the control planes and the keys between hosts (peers.sh)
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/peers.sh
source "$(dirname "$(readlink -f "$0")")/peers.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"
# shellcheck source=cluster/nodes/scripts/encryption-keys.sh
source "$(dirname "$(readlink -f "$0")")/encryption-keys.sh"
# shellcheck source=cluster/nodes/scripts/packages.sh
source "$(dirname "$(readlink -f "$0")")/packages.sh"
: "${KUBERNETES_VERSION:?}" "${CLUSTER:?}" "${NODE:?}" "${ROLE:?}" "${DRAIN_SECONDS:?}" "${SETTINGS:?}"

KUBELET=/etc/kubernetes/kubelet.conf
UPGRADING=$STATE/upgrading # from the first change of a package to the end
CORDONED=$STATE/cordoned   # by us: a node that somebody else cordoned stays so
RENEWED=$STATE/renewed     # what RENEWAL was last
MANIFESTS=(/etc/kubernetes/manifests/kube-{apiserver,controller-manager,scheduler}.yaml)
STEADY=15                  # seconds; the kubelet looks at its static pods every 10 to 20 s

on_control_plane() { [[ $ROLE == control-plane ]]; }
own_view() { kubectl --kubeconfig="$KUBELET" --request-timeout=10s "$@"; }
node_field() { own_view get node "$NODE" --output=jsonpath="$1"; }

up_to_date() { [[ ! -e $UPGRADING && $(kubelet_version) == "$KUBERNETES_VERSION" ]]; }

# shellcheck disable=SC2016 # jsonpaths, not variables
node_settled() {
  [[ $(node_field '{.status.nodeInfo.kubeletVersion}') == "v$KUBERNETES_VERSION" &&
    $(node_field '{.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

# kubeadm's rules (kubernetes.io/releases/version-skew-policy): never back, one minor at a time.
check_step() {
  local from to
  from=$(kubelet_version)
  to=$KUBERNETES_VERSION
  [[ $(printf '%s\n' "$from" "$to" | sort --version-sort | tail -n 1) == "$to" ]] ||
    fail "this node runs Kubernetes $from, wanted is $to" "a version that is not older" \
      "set kubernetesVersion to $from or newer; Kubernetes can't be downgraded"
  ((10#$(cut -d. -f2 <<<"$to") - 10#$(cut -d. -f2 <<<"$from") <= 1)) ||
    fail "this node runs Kubernetes $from, wanted is $to" "one minor version at a time" \
      "set kubernetesVersion to the next minor, run 'pulumi up', and go on from there"
}

cluster_version() { # what kubeadm has noted for the whole cluster
  kube --namespace=kube-system get configmap kubeadm-config --output=jsonpath='{.data.ClusterConfiguration}' |
    awk '$1 == "kubernetesVersion:" {sub("v", "", $2); print $2}'
}

# The first control plane that gets here takes the cluster along; which one that is does not matter.
upgrade_static_parts() {
  local config=$RUNTIME/upgrade.yaml
  sed "s/@VERSION@/v$KUBERNETES_VERSION/" "$CONFIG/upgrade.yaml" >"$config"
  if on_control_plane && [[ $(cluster_version) != "$KUBERNETES_VERSION" ]]; then
    kubeadm upgrade plan "v$KUBERNETES_VERSION" --config="$config"
    kubeadm upgrade apply "v$KUBERNETES_VERSION" --yes --config="$config"
  else
    kubeadm upgrade node --config="$config"
  fi
}

drain() {
  ! on_control_plane || wait_for 180 "the API server of $(hostname)" api_ready # kubeadm has just restarted it
  [[ ! -e $CORDONED && $(node_field '{.spec.unschedulable}') == true ]] || put "$CORDONED" </dev/null
  if on_control_plane; then drain_node "$NODE" "$DRAIN_SECONDS"; else ask "drain $NODE $DRAIN_SECONDS"; fi
}

restart_kubelet() {
  systemctl daemon-reload
  systemctl restart kubelet
}

settle() {
  step "node Ready with $KUBERNETES_VERSION" wait_for 300 "node $NODE Ready with $KUBERNETES_VERSION" node_settled ||
    fail "node $NODE is not Ready with $KUBERNETES_VERSION" "Ready within 300 s" \
      "look at 'journalctl -u kubelet' and 'crictl ps -a' on this host, then run 'pulumi up' again"
  ! on_control_plane || step "API server and etcd" steady ||
    fail "API server or etcd of $NODE do not stay well" "both well for $STEADY s" \
      "look at 'crictl ps -a' and 'journalctl -u kubelet' on this host, then run 'pulumi up' again"
}

# A new kubelet starts the static pods anew some seconds after the node is Ready. The next control plane must not
# begin before they are back: two of etcd's members would be away.
steady() {
  local since="" end=$((SECONDS + 300))
  until [[ -n $since ]] && ((SECONDS - since >= STEADY)); do
    ((SECONDS < end)) || return 1
    if { api_ready && etcdctl_here endpoint health; } >/dev/null 2>&1; then since=${since:-$SECONDS}; else since=""; fi
    sleep 1
  done
}

uncordon() {
  [[ -e $CORDONED ]] || return 0
  if on_control_plane; then retry 60 kube uncordon "$NODE"; else retry 60 ask "uncordon $NODE"; fi >&2
  rm -f "$CORDONED"
}

upgrade() {
  check_step
  say "Kubernetes $(kubelet_version) to $KUBERNETES_VERSION"
  ! on_control_plane || step "API server" wait_for 180 "the API server of $(hostname)" api_ready
  put "$UPGRADING" <<<"$KUBERNETES_VERSION"
  step "kubeadm $KUBERNETES_VERSION" install_exactly "kubeadm=$KUBERNETES_VERSION-*" || fail_for_packages kubeadm
  # Before the drain, as kubeadm's own check runs a pod, for which there may be no other node.
  step "kubeadm upgrade" upgrade_static_parts
  step "drain" drain ||
    fail "node $NODE is not drained after $DRAIN_SECONDS s; it stays cordoned" \
      "every pod evicted within its disruption budget" \
      "give the pods named above more replicas or a wider budget, or raise drainTimeoutSeconds, and run 'pulumi up' again"
  step "kubelet $KUBERNETES_VERSION" install_exactly {kubelet,kubectl}="$KUBERNETES_VERSION-*" ||
    fail_for_packages kubelet kubectl
  restart_kubelet
  settle
  uncordon
  rm -f "$UPGRADING"
}

# The cluster's copy of the settings, from which kubeadm gives them to each node: every control plane brings it
# up to date, as whichever is the first has to. kube-proxy reads its own only as it starts.
upload_settings() {
  local before
  before=$(proxy_settings)
  kubeadm init phase upload-config all --config="$RUNTIME/settings.yaml"
  kubeadm init phase addon kube-proxy --config="$RUNTIME/settings.yaml"
  [[ $(proxy_settings) == "$before" ]] || kube --namespace=kube-system rollout restart daemonset/kube-proxy
}

proxy_settings() { kube --namespace=kube-system get configmap kube-proxy --output=jsonpath='{.data}'; }

static_pods_are_current() {
  local digest manifest
  digest=$(awk '/name: OWN_KUBERNETES_SETTINGS/ {getline; print $2; exit}' "$CONFIG/init.yaml")
  for manifest in "${MANIFESTS[@]}"; do grep -qF "value: $digest" "$manifest" || return 1; done
}

# kubeadm puts one manifest after the other in place, waits for what it makes, and goes back if that does not come.
renew_static_pods() {
  kubeadm upgrade node phase control-plane --etcd-upgrade=false --certificate-renewal=false || return 1
  steady || return 1
  encryption_is_loaded
}

# Who is not root has no business there; packages and kubeadm give these to all.
close_files() {
  chmod --quiet go= /usr/lib/systemd/system/kubelet.service{,.d/10-kubeadm.conf} /var/lib/kubelet/config.yaml || true
  [[ ! -d $PKI ]] || find "$PKI" -name '*.crt' -exec chmod 0600 {} +
}

apply_settings() {
  if on_control_plane; then
    sed -e "s/^kubernetesVersion:.*/kubernetesVersion: v$KUBERNETES_VERSION/" "$CONFIG/init.yaml" >"$RUNTIME/settings.yaml"
    step "the cluster's settings" upload_settings
    static_pods_are_current || step "control plane's settings" renew_static_pods ||
      fail "the control plane of $NODE does not come up with its settings; kubeadm has taken them back" \
        "API server, controller manager and scheduler well, one after the other" \
        "look at the lines above and at 'crictl ps -a' on this host, then run 'pulumi up' again"
  fi
  cp /var/lib/kubelet/config.yaml "$RUNTIME/kubelet.before"
  step "kubelet's settings" kubeadm upgrade node phase kubelet-config
  if ! cmp -s "$RUNTIME/kubelet.before" /var/lib/kubelet/config.yaml; then
    step "kubelet restarted" restart_kubelet
    settle
  fi
  put "$APPLIED" <<<"$SETTINGS"
}

# Static pods read their certificates anew as they start; kubelets renew their own.
renew_certificates() {
  kubeadm certs renew all
  crictl pods --namespace=kube-system --label=tier=control-plane --state=Ready --quiet | xargs --no-run-if-empty crictl stopp
  wait_for 20 "the end of the old API server" bash -c "! </dev/tcp/$(cat "$CONFIG/internal-address")/6443" || true
  steady
}

first_expiry() {
  kubeadm certs check-expiration --output=json 2>/dev/null |
    grep --only-matching --extended-regexp '"expirationDate": *"[^"]+"' | cut -d'"' -f4 | sort | head -n 1
}

(umask 077 && take_peers)
up_to_date || upgrade
[[ $(cat "$APPLIED" 2>/dev/null) == "$SETTINGS" ]] || apply_settings
close_files
if on_control_plane; then
  if [[ -n ${RENEWAL:-} && $(cat "$RENEWED" 2>/dev/null) != "$RENEWAL" ]]; then
    step "new certificates" renew_certificates
    put "$RENEWED" <<<"$RENEWAL"
  fi
  first_expiry
fi
