#!/usr/bin/env bash
# clock.sh TIME: compares this host's clock with the time where the program runs (seconds since 1970, now). One
# that is off is set by the host's own time service, if it has one, or refused: to others its certificates and
# tokens would not be valid yet, or not any more.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

ALLOWED=30 # seconds
SERVICES=(chrony systemd-timesyncd ntpsec ntp)

# Seconds since boot: bash's own SECONDS jump with the clock.
uptime_now() { awk '{print int($1)}' /proc/uptime; }
off() { printf '%s\n' $(($(date +%s) - given - $(uptime_now) + began)); }
is_right() {
  local seconds
  seconds=$(off)
  ((${seconds#-} <= ALLOWED))
}

# Each of them sets a clock that is far off as it starts.
set_clock() {
  local service
  for service in "${SERVICES[@]}"; do
    systemctl is-enabled --quiet "$service" 2>/dev/null || continue
    say "the clock is off by $(off) s: $service is to set it"
    systemctl restart "$service"
    wait_for 60 "a time from $service" is_right
    return
  done
  return 1
}

given=$1
began=$(uptime_now)
is_right || set_clock || fail "the clock is off by $(off) s" \
  "at most $ALLOWED s from that of the machine which runs this program ($(date --utc --date="@$given"))" \
  "set this host's clock ('timedatectl'), and let chrony or systemd-timesyncd keep it; or set that machine's"
