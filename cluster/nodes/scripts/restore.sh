#!/usr/bin/env bash
# Brings a host back to how prepare.sh found it. Does nothing on a host that was never prepared.
#
# REMOVE_PACKAGES   true: packages that were not there before go, with their data
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
: "${REMOVE_PACKAGES:?}"

restore_swap() {
  sed -i 's/^# own-kubernetes: //' /etc/fstab
  local unit
  while read -r unit; do systemctl unmask --quiet "$unit"; done \
    < <(cat "$STATE/found/masked" 2>/dev/null)
  systemctl daemon-reload
  while read -r unit; do swapon "$unit" 2>/dev/null || true; done <"$STATE/found/swaps"
}

remove_units() { # those of phases too whose create failed, and so left no undo of their own
  local unit
  for unit in firewall.service floating.service nodes.timer nodes.service backup.timer backup.service; do
    systemctl disable --now --quiet "own-kubernetes-$unit" 2>/dev/null || true
    rm -f "/etc/systemd/system/own-kubernetes-$unit" "/var/lib/systemd/timers/stamp-own-kubernetes-$unit"
  done
}

remove_packages() {
  local new
  apt-mark unhold containerd.io kubeadm kubelet kubectl >/dev/null 2>&1 || true
  [[ $REMOVE_PACKAGES == true ]] || return 0
  systemctl stop kubelet containerd 2>/dev/null || true
  mapfile -t new < <(dpkg-query --show --showformat '${Package}\n' |
    grep -vxFf "$STATE/found/packages" || true)
  if ((${#new[@]})); then
    apt-get --quiet=2 -o DPkg::Lock::Timeout=300 purge "${new[@]}"
  fi
  rm -rf /etc/containerd /run/containerd /opt/cni /opt/containerd /var/lib/kubelet /etc/cni
  # These may be mount points of their own.
  local data
  for data in /var/lib/containerd /var/lib/etcd; do
    [[ ! -d $data ]] || find "$data" -mindepth 1 -delete
    rmdir "$data" 2>/dev/null || true
  done
}

remove_files() {
  local list path
  for list in "$CONFIG/apt-keys" "$STATE/files" "$STATE/files.new"; do # "files" lists apt-keys itself
    [[ -e $list ]] || continue
    while read -r path _; do rm -f "$path"; done <"$list"
  done
  rm -f /etc/crictl.yaml /etc/keepalived/keepalived.conf "$UPDATES"
  rmdir --ignore-fail-on-non-empty /etc/apt/keyrings /etc/keepalived 2>/dev/null || true
}

[[ -e $STATE/found/complete ]] || exit 0
step "firewall and services removed" remove_units
step "packages removed" remove_packages
step "files removed" remove_files
step "sysctls" sysctl --quiet --load="$STATE/found/sysctls" || true
step "swap" restore_swap
rm -rf "$CONFIG" "$STATE" "$LIBRARY" "$RUNTIME" /var/log/own-kubernetes /run/nri
