#!/usr/bin/env bash
# Takes the snapshot, from stdin, that control-plane.sh is to bring the cluster back from (recovery.sh). It stays
# encrypted here. On a host that is a member already nothing is kept.
#
# $1   its SHA-256 digest
set -euo pipefail
umask 077
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

file=$STATE/recovery/snapshot.tar.age

if [[ $(stage) == member ]]; then
  say "this host is a member of its cluster already: the snapshot is not needed here"
  cat >/dev/null
  exit 0
fi
mkdir -p "$STATE/recovery"
cat >"$file.new"
[[ $(sha256sum "$file.new" | cut -d' ' -f1) == "$1" ]] ||
  fail "the snapshot did not arrive as it was sent" "all of it, and room for it in $STATE" "run 'pulumi up' again"
mv "$file.new" "$file"
