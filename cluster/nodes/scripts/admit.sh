#!/usr/bin/env bash
# Lets the cluster's hosts ask this control plane for what joining and upgrading takes (door.sh), by keys that
# can do nothing else. Run again it brings the login user's authorized_keys to what is wanted.
#
# stdin   lines "ROLE KEY-TYPE KEY"
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

user=$(cat "$CONFIG/login-user")
home=$(getent passwd "$user" | cut -d: -f6)
keys=$home/.ssh/authorized_keys

lines=$(
  while read -r role key; do
    door="$LIBRARY/door.sh $role"
    # sudo drops the variable in which sshd hands the request over.
    [[ $user == root ]] || door="sudo -n $door \\\"\$SSH_ORIGINAL_COMMAND\\\""
    printf 'restrict,command="%s" %s %s\n' "$door" "$key" "$ADMITTED_AS"
  done
)
others=$(grep -v " $ADMITTED_AS\$" "$keys" 2>/dev/null || true)
[[ $(cat "$keys" 2>/dev/null) != "${others:+$others$'\n'}$lines" ]] || exit 0
install -d -m 0700 -o "$user" -g "$(id -gn "$user")" "$home/.ssh"
put "$keys" 0600 <<<"${others:+$others$'\n'}$lines"
chown "$user:" "$keys"
