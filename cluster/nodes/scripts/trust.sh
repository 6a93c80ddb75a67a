#!/usr/bin/env bash
# The first phase on a new server: waits for its first boot to end, then gives it an SSH host key that nobody
# else knows and prints the public half. The first boot's key stays until prepare.sh has come in by the new one,
# so that this phase can be run again when its answer was lost.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

KEY=/etc/ssh/ssh_host_ed25519_key

first_boot() { timeout 900 cloud-init status --wait || (($? == 2)); } # 2: done, with warnings

# A first boot that went wrong is told, and is no end: every phase does itself what is missing.
wait_for_first_boot() {
  command -v cloud-init >/dev/null || return 0
  step "first boot" first_boot || {
    say "cloud-init on $(hostname) says:"
    { cloud-init status --long || true; tail --lines=15 /var/log/cloud-init-output.log || true; } 2>&1 |
      cut --bytes=1-500 >&3
  }
}

wait_for_first_boot
if [[ ! -e $STATE/trusted ]]; then
  rm -f "$KEY" "$KEY.pub" # of a try that was cut off
  ssh-keygen -q -t ed25519 -N '' -C "root@$(hostname)" -f "$KEY"
  put "$STATE/trusted" </dev/null
fi
systemctl reload ssh
cut -d' ' -f1-2 "$KEY.pub"
