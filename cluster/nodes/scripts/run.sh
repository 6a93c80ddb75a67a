#!/usr/bin/env bash
# run.sh PHASE [KEY=VALUE...]: the one way in for everything the program runs on a host.
#
# The phase (PHASE.sh beside this file) runs detached, as a transient systemd unit, one at a time: when the
# SSH connection drops it goes on, and the next run waits for it before it starts. Values that may be
# seen come as KEY=VALUE; secrets come on stdin and are kept in memory only. The phase's stderr is
# streamed here while it runs; its result follows on stdout when it has ended well.
set -euo pipefail
umask 077

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$here/lib.sh"
phase=$1
shift

((EUID == 0)) || fail "run.sh as user $(id -un)" "root, or a user with password-less sudo" \
  "give the login user NOPASSWD sudo, or log in as root"
[[ -d /run/systemd/system ]] || fail "systemd is not running here" "a host booted with systemd" \
  "use Debian 12/13 or Ubuntu 22.04/24.04"

mkdir -p "$RUNTIME" /var/log/own-kubernetes
exec 9>"$RUNTIME/lock"
flock --wait 1800 9 || fail "another run has held $RUNTIME/lock for 30 minutes" \
  "one run at a time" "look at 'systemctl list-units own-kubernetes-*' on this host"

# What an earlier, cut-off connection left running is waited for: it is doing our work.
while unit=$(systemctl list-units --plain --no-legend --state=active,activating,deactivating \
  'own-kubernetes-run-*' | awk 'NR == 1 {print $1}') && [[ -n $unit ]]; do
  say "waiting for $unit, started by an earlier run"
  wait_for 1800 "the end of $unit" bash -c "! systemctl is-active --quiet $unit"
done

# Scripts run from a place that only root can write to, also when a user copied them here. Each takes its place
# by one rename: timers and logins use them at any moment, without this lock.
if [[ $here != "$LIBRARY" ]] && ! diff --recursive --brief "$here" "$LIBRARY" >/dev/null 2>&1; then
  rm -rf "$LIBRARY.new"
  install -d -m 0755 "$LIBRARY" "$LIBRARY.new"
  install -m 0755 "$here"/* "$LIBRARY.new/"
  mv --force "$LIBRARY.new"/* "$LIBRARY/"
  rmdir "$LIBRARY.new"
  for script in "$LIBRARY"/*; do [[ -e $here/${script##*/} ]] || rm -rf "$script"; done
fi

input=$RUNTIME/$phase.in result=$RUNTIME/$phase.out
log=/var/log/own-kubernetes/$phase.log detail=/var/log/own-kubernetes/$phase.detail.log
trap 'rm -f "$input" "$result"' EXIT
cat >"$input"
: >"$result"
: >"$log"
: >"$detail"

settings=()
for pair in "$@"; do settings+=("--setenv=$pair"); done
set +e
systemd-run --quiet --collect --wait --unit="own-kubernetes-run-$phase" \
  --property=StandardInput="file:$input" --property=StandardOutput="file:$result" \
  --property=StandardError="append:$log" --property=UMask=0022 --setenv=HOME="$RUNTIME" --setenv=DETAIL="$detail" \
  "${settings[@]}" "$LIBRARY/$phase.sh" &
unit=$!
tail --quiet --follow=name --lines=+1 --sleep-interval=0.1 --pid="$unit" "$log" >&2 2>/dev/null
wait "$unit"
status=$?
set -e
((status == 0)) || exit "$status"
[[ ! -e $result ]] || cat "$result"
