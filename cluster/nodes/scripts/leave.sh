#!/usr/bin/env bash
# Takes this host out of its cluster: kubeadm reset and what reset leaves (CNI state, interfaces, rules).
# Does nothing on a host that is in no cluster of ours.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

remove_interfaces() {
  local name
  for name in cni0 flannel.1 flannel-v6.1 kube-ipvs0; do
    ip link delete "$name" 2>/dev/null || true
  done
}

# kube-proxy's, Flannel's and the CNI plugins' rules only; all others stay as they are.
remove_rules() {
  local family rules
  for family in iptables ip6tables; do
    command -v "$family-save" >/dev/null || continue
    rules=$("$family-save" 2>/dev/null) || continue
    grep -qE 'KUBE-|FLANNEL|CNI-' <<<"$rules" || continue
    grep -vE 'KUBE-|FLANNEL|CNI-' <<<"$rules" | "$family-restore"
  done
}

# The address that control planes share goes to another one first.
give_address_up() {
  local address
  address=$(cat "$CONFIG/virtual-address" 2>/dev/null) || return 0
  systemctl disable --quiet --now keepalived 2>/dev/null || true
  ip address delete "$address/32" dev "$(device_of "$address")" 2>/dev/null || true
}

[[ -n $(stage) ]] || exit 0
give_address_up
for timer in nodes backup; do
  systemctl disable --quiet --now "own-kubernetes-$timer.timer" 2>/dev/null || true
done
while read -r home; do
  keys=$home/.ssh/authorized_keys
  [[ ! -e $keys ]] || sed -i "/ $ADMITTED_AS\$/d" "$keys"
done < <(getent passwd "$(cat "$CONFIG/login-user" 2>/dev/null || echo root)" | cut -d: -f6)
if command -v kubeadm >/dev/null; then
  systemctl start containerd || true
  step "kubeadm reset" kubeadm reset --force --cri-socket=unix:///run/containerd/containerd.sock ||
    say "kubeadm reset reported an error; going on with what it left"
fi
systemctl stop kubelet 2>/dev/null || true
step "network state removed" remove_interfaces
remove_rules
# Emptied, not removed: containerd ends when its CNI folder goes.
find /etc/cni/net.d -mindepth 1 -delete 2>/dev/null || true
rm -rf /var/lib/cni /run/flannel /etc/kubernetes /var/lib/kubelet/* /var/lib/etcd/*
rm -f "$STATE"/{stage,cluster,nodes,cordoned,upgrading,settings,renewed,encryption}
