#!/usr/bin/env bash
# Has this host install its distribution's security updates by itself, every night (unattended-upgrades), or
# leaves it to whoever did so before. It never reboots by itself: kured does, where that is wanted.
#
# AUTOMATIC   true or false
# SCRIPTS     changes with what is installed here
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/packages.sh
source "$(dirname "$(readlink -f "$0")")/packages.sh"
: "${AUTOMATIC:?}"

was_there() { grep -qxF unattended-upgrades "$STATE/found/packages"; }

# apt's own timers do the work.
check_timers() {
  local timer
  for timer in apt-daily.timer apt-daily-upgrade.timer; do
    systemctl is-enabled --quiet "$timer" || fail "$timer is off" "apt's own timer enabled, as distributions have it" \
      "run 'systemctl enable --now $timer' on this host, or set osUpdates.enabled to false"
  done
}

turn_on() {
  check_timers
  install_exactly unattended-upgrades || fail "unattended-upgrades is not installed" "the distribution's package" \
    "look at the lines above: they name the package source that did not answer; or set osUpdates.enabled to false"
  # After the distribution's own files, which say what a security update is. Held packages stay as they are
  # (Kubernetes and containerd, prepare.sh).
  put "$UPDATES" <<'END'
// Written by own-kubernetes (osUpdates); changes are lost.
APT::Periodic::Enable "1";
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Automatic-Reboot "false";
END
}

turn_off() {
  rm -f "$UPDATES"
  was_there || ! installed unattended-upgrades || apt_get purge unattended-upgrades
}

if [[ $AUTOMATIC == true ]]; then step "security updates on" turn_on; else step "security updates off" turn_off; fi
