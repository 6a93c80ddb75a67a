#!/usr/bin/env bash
# Makes a bare host ready for kubeadm: checks, swap, kernel, firewall, packages, containerd, images.
# Looks first and does only what is missing, so it may be run again at any point.
#
# KUBERNETES_VERSION, CONTAINERD_VERSION   exact versions
# ROLE                                     control-plane or worker
# stdin                                    the host's files: "#-- PATH" lines, each followed by contents
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/packages.sh
source "$(dirname "$(readlink -f "$0")")/packages.sh"
: "${KUBERNETES_VERSION:?}" "${CONTAINERD_VERSION:?}" "${ROLE:?}"
# shellcheck source=/dev/null
source /etc/os-release

MINIMUM_CPUS=2
MINIMUM_MIB=1700 # kubeadm's own bounds (preflight NumCPU and Mem)

check_system() {
  local supported="debian-12 debian-13 ubuntu-22.04 ubuntu-24.04"
  [[ " $supported " == *" $ID-${VERSION_ID:-} "* ]] ||
    fail "operating system ${PRETTY_NAME:-$ID}" "Debian 12 or 13, Ubuntu 22.04 or 24.04" \
      "reinstall the host with one of those"
  [[ $(dpkg --print-architecture) == @(amd64|arm64) ]] ||
    fail "architecture $(dpkg --print-architecture)" "amd64 or arm64" "use another host"
}

check_resources() {
  local cpus mib
  cpus=$(nproc)
  mib=$(awk '$1 == "MemTotal:" {print int($2 / 1024)}' /proc/meminfo)
  ((cpus >= MINIMUM_CPUS)) ||
    fail "$cpus CPU" "at least $MINIMUM_CPUS CPUs" "use a larger host"
  ((mib >= MINIMUM_MIB)) ||
    fail "$mib MiB of memory" "at least $MINIMUM_MIB MiB" "use a larger host"
}

# Notes once how the host was found; restore.sh brings that back.
note_found_state() {
  [[ ! -e $STATE/found/complete ]] || return 0
  mkdir -p "$STATE/found"
  awk 'NR > 1 {print $1}' /proc/swaps >"$STATE/found/swaps"
  cp -a /etc/fstab "$STATE/found/fstab" 2>/dev/null || : >"$STATE/found/fstab"
  dpkg-query --show --showformat '${Package}\n' >"$STATE/found/packages"
  sysctl net.ipv4.ip_forward net.bridge.bridge-nf-call-{iptables,ip6tables} vm.overcommit_memory vm.panic_on_oom \
    kernel.panic kernel.panic_on_oops kernel.keys.root_max{keys,bytes} >"$STATE/found/sysctls" 2>/dev/null || true
  : >"$STATE/found/complete"
}

# The named files; contents after each "#-- PATH" line.
write_files() {
  local line path="" text=""
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line == "#-- "* ]]; then
      write_file "$path" "$text"
      path=${line#"#-- "} text=""
    else
      text+=$line$'\n'
    fi
  done
  write_file "$path" "$text"
}

write_file() {
  [[ -n $1 ]] || return 0
  local text=$2
  text=${text//@ID@/$ID}
  text=${text//@CODENAME@/$VERSION_CODENAME}
  put "$1" <<<"${text%$'\n'}"
  printf '%s\n' "$1" >>"$STATE/files.new"
}

forget_old_files() { # those written by an earlier run and not wanted any more
  local path
  if [[ -e $STATE/files ]]; then
    while read -r path; do
      grep -qxF "$path" "$STATE/files.new" || rm -f "$path"
    done <"$STATE/files"
  fi
  mv "$STATE/files.new" "$STATE/files"
}

turn_swap_off() {
  swapoff --all
  # For good: fstab's swap lines are kept as comments, and swap units of systemd are masked.
  sed -i -E '/^[^#].*[[:space:]]swap[[:space:]]/ s/^/# own-kubernetes: /' /etc/fstab
  local unit
  systemctl daemon-reload
  systemctl list-units --type=swap --all --plain --no-legend | awk '{print $1}' |
    while read -r unit; do
      [[ $(systemctl is-enabled "$unit" 2>/dev/null) != masked ]] || continue
      printf '%s\n' "$unit" >>"$STATE/found/masked"
      systemctl mask --quiet --now "$unit"
    done
}

set_up_kernel() {
  local module
  while read -r module; do modprobe "$module"; done </etc/modules-load.d/own-kubernetes.conf
  sysctl --quiet --load=/etc/sysctl.d/90-own-kubernetes.conf
}

# The host key in a server's user-data has served once this phase was reached by the one of trust.sh.
forget_first_key() {
  [[ -e $STATE/trusted && -e /etc/ssh/ssh_host_ecdsa_key ]] || return 0
  rm -f /etc/ssh/ssh_host_ecdsa_key{,.pub} /var/lib/cloud/instance/user-data.txt*
  systemctl reload ssh
}

set_up_firewall() {
  install -m 0644 "$LIBRARY/own-kubernetes-firewall.service" /etc/systemd/system/
  systemctl daemon-reload
  systemctl enable --quiet own-kubernetes-firewall.service
  systemctl restart own-kubernetes-firewall.service
}

fetch_keys() { # lines "PATH URL FINGERPRINT": from the internet, accepted only by fingerprint
  local path url fingerprint found
  while read -r path url fingerprint; do
    [[ -n $path && ! -s $path ]] || continue
    [[ -x /usr/bin/curl && -x /usr/bin/gpg && -e /etc/ssl/certs/ca-certificates.crt ]] ||
      retry 120 get_packages install curl gpg ca-certificates || fail_for_packages curl gpg ca-certificates
    retry 120 curl --fail --silent --show-error --location --connect-timeout 10 --max-time 60 \
      --output "$path.new" "$url" ||
      fail "no answer from $url" "the package repository's signing key" \
        "see that the host reaches it, or set mirror.apt"
    found=$(gpg --batch --show-keys --with-colons "$path.new" | awk -F: '
      $1 == "pub" {primary = 1} $1 == "fpr" && primary {print $10; primary = 0}')
    [[ $found == "$fingerprint" ]] || fail "signing key $found at $url" "key $fingerprint" \
      "do not go on: find out why the repository's key changed"
    mv "$path.new" "$path"
  done <"$CONFIG/apt-keys"
}

wanted_packages() {
  printf '%s\n' "containerd.io=$CONTAINERD_VERSION-*" cri-tools nftables conntrack ethtool socat iptables \
    openssh-client
  [[ ! -e $CONFIG/virtual-address ]] || printf '%s\n' keepalived curl
  [[ $ROLE != control-plane ]] || printf '%s\n' openssl
  ((${#kubernetes[@]} == 0)) || printf '%s\n' "${kubernetes[@]}"
}

# A member's version is changed by upgrade.sh, node by node; here its packages are only fetched ahead.
install_packages() {
  local kubernetes ahead=() wanted
  mapfile -t kubernetes < <(printf "%s=$KUBERNETES_VERSION-*\n" kubeadm kubelet kubectl)
  if [[ -n $(stage) && $(kubelet_version) != "$KUBERNETES_VERSION" ]]; then
    ahead=("${kubernetes[@]}")
    kubernetes=()
  fi
  mapfile -t wanted < <(wanted_packages)
  missing "${wanted[@]}" "${ahead[@]}" >/dev/null || return 0
  fetch_keys
  ((${#ahead[@]} == 0)) || fetch_ahead "${ahead[@]}" || fail_for_packages "${ahead[@]}"
  install_exactly "${wanted[@]}" || fail_for_packages "${wanted[@]}"
  apt-mark hold containerd.io kubeadm kubelet kubectl >/dev/null
}

set_up_containerd() {
  local pause config=/etc/containerd/config.toml
  pause=$(kubeadm config images list --kubernetes-version "v$(kubeadm_version)" | grep '/pause:')
  put "$config" <<<"$(sed "s|@PAUSE@|$pause|" "$CONFIG/containerd.toml")"
  if [[ $CHANGED == true ]] || ! systemctl is-active --quiet containerd; then
    systemctl enable --quiet containerd
    systemctl restart containerd
  fi
  # Seconds: crictl's own 2 are too few to stop a container on a busy host.
  put /etc/crictl.yaml <<<$'runtime-endpoint: unix:///run/containerd/containerd.sock\ntimeout: 60'
  wait_for 60 "containerd's CRI" crictl info
}

# keepalived is started by control-plane.sh; here a running one gets a changed configuration.
set_up_keepalived() {
  local device
  device=$(device_of "$(cat "$CONFIG/internal-address")")
  put /etc/keepalived/keepalived.conf <<<"$(sed "s|@DEVICE@|$device|" "$CONFIG/keepalived.conf")"
  [[ $CHANGED == false ]] || ! systemctl is-active --quiet keepalived || systemctl reload keepalived
}

# Images come while other things happen; a failure is no harm, kubeadm and the kubelet pull what is missing.
pull_images() {
  [[ -e $CONFIG/images ]] || return 0
  local role_images=.
  [[ $ROLE == control-plane ]] || role_images='/(kube-proxy|pause):'
  kubeadm config images list --kubernetes-version "v$(kubeadm_version)" |
    grep -E "$role_images" | cat - "$CONFIG/images" >"$RUNTIME/images"
  # shellcheck disable=SC2016 # the words are the other bash's
  systemctl is-active --quiet own-kubernetes-pull ||
    systemd-run --quiet --collect --unit=own-kubernetes-pull \
      xargs --max-args=1 --max-procs=4 --arg-file="$RUNTIME/images" \
      bash -c 'source "$0"; retry 120 crictl pull "$1"' "$LIBRARY/lib.sh"
}

main() {
  check_system
  check_resources
  refuse_foreign_cluster
  mkdir -p "$STATE" "$CONFIG"
  note_found_state
  : >"$STATE/files.new"
  write_files
  forget_old_files
  step "swap off" turn_swap_off
  step "kernel modules and sysctls" set_up_kernel
  step "packages" install_packages
  [[ ! -e $CONFIG/firewall.nft ]] || step "firewall" set_up_firewall
  forget_first_key
  step "containerd" set_up_containerd
  [[ ! -e $CONFIG/virtual-address ]] || step "keepalived" set_up_keepalived
  systemctl enable --quiet kubelet
  pull_images
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main; fi
