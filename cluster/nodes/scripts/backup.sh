#!/usr/bin/env bash
# Has this control plane take snapshots of the cluster from time to time (snapshot.sh), and takes the first one as
# proof that it can; or takes all of it away again, but for the snapshots.
#
# CLUSTER, NODE     what snapshots are named after
# SCHEDULE          when, in systemd's words (systemd.time(7))
# DIRECTORY, KEEP   where they lie on this host, and how many
# RECIPIENT         the age key that they are encrypted for
# S3_URL            where they are uploaded, bucket and prefix included; nowhere without it
# S3_REGION         the storage's region
# SCRIPTS           changes with what is installed here
# REMOVE            true: take it away (needs nothing else)
# stdin             the storage's credentials, ACCESS-KEY:SECRET-KEY
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/packages.sh
source "$(dirname "$(readlink -f "$0")")/packages.sh"

NAME=own-kubernetes-backup
UNITS=/etc/systemd/system
SETTINGS=$CONFIG/backup.conf
CREDENTIALS=$CONFIG/backup.curlrc
SIGNS=7.87.0 # the first curl that signs the digest of what it uploads, which S3 wants

remove() {
  systemctl disable --now --quiet "$NAME.timer" 2>/dev/null || true
  systemctl stop "$NAME.service" 2>/dev/null || true
  systemctl reset-failed "$NAME.service" 2>/dev/null || true
  rm -rf "$UNITS/$NAME".{timer,service} "$SETTINGS" "$CREDENTIALS" "/var/lib/systemd/timers/stamp-$NAME.timer" \
    /var/lib/etcd/own-kubernetes-backup
  systemctl daemon-reload
}

check_schedule() {
  systemd-analyze calendar "$SCHEDULE" >/dev/null 2>&1 ||
    fail "systemd does not understand the schedule '$SCHEDULE'" "a calendar event, like *-*-* 03:00:00" \
      "correct backup.schedule; 'systemd-analyze calendar' tells what a text means"
}

check_curl() {
  local found
  [[ -n ${S3_URL:-} ]] || return 0
  found=$(curl --version | awk 'NR == 1 {print $2}')
  [[ $(printf '%s\n' "$found" "$SIGNS" | sort --version-sort | head -n 1) == "$SIGNS" ]] ||
    fail "curl $found can't sign uploads for S3" "curl $SIGNS or newer (Debian 12, Ubuntu 24.04)" \
      "use a newer system on the control planes, or take backup.s3 out and fetch the snapshots from $DIRECTORY"
}

write_files() {
  local credentials=""
  put "$SETTINGS" <<<"cluster $CLUSTER
node $NODE
directory $DIRECTORY
keep $KEEP
recipient $RECIPIENT
url ${S3_URL:-}"
  rm -f "$CREDENTIALS"
  [[ -n ${S3_URL:-} ]] || return 0
  read -r credentials || true
  [[ $credentials =~ ^[A-Za-z0-9._~@/+=-]+:[A-Za-z0-9._~@/+=-]+$ ]] ||
    fail "the storage's credentials are not of the form ACCESS-KEY:SECRET-KEY" "both, with a colon between" \
      "run 'pulumi config set --secret backupS3Credentials' once more"
  put "$CREDENTIALS" 0600 <<<"user = \"$credentials\"
aws-sigv4 = \"aws:amz:$S3_REGION:s3\""
}

start() {
  put "$UNITS/$NAME.service" <"$LIBRARY/$NAME.service"
  put "$UNITS/$NAME.timer" < <(sed "s|@SCHEDULE@|$SCHEDULE|" "$LIBRARY/$NAME.timer")
  systemctl daemon-reload
  systemctl enable --quiet "$NAME.timer"
  systemctl restart "$NAME.timer"
}

if [[ ${REMOVE:-} == true ]]; then
  remove
  exit 0
fi
: "${CLUSTER:?}" "${NODE:?}" "${SCHEDULE:?}" "${DIRECTORY:?}" "${KEEP:?}" "${RECIPIENT:?}"
[[ -z ${S3_URL:-} ]] || : "${S3_REGION:?}"
check_schedule
step "age and curl" install_exactly age curl ||
  fail "age or curl is not installed" "both, from the distribution" \
    "look at the lines above: they name the package source that did not answer, or has no age"
check_curl
write_files
step "timer for snapshots" start
step "first snapshot" systemctl start "$NAME.service" || {
  journalctl --unit="$NAME.service" --lines=12 --no-pager --output=cat >&3 2>/dev/null || true
  fail "the first snapshot failed (above)" "an encrypted snapshot in $DIRECTORY${S3_URL:+ and at $S3_URL}" \
    "mend what the lines above say, then run 'pulumi up' again"
}
files=("$DIRECTORY/$CLUSTER-$NODE"-????????T??????Z.tar.age)
say "${files[-1]}"
