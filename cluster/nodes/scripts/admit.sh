#!/usr/bin/env bash
# Lets joining hosts ask this control plane for a token, and for nothing else: a key pair made here once,
# whose public half may only run mint.sh. The private half reaches joining hosts as a secret.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

user=$(cat "$CONFIG/login-user")
home=$(getent passwd "$user" | cut -d: -f6)
key=$STATE/join-key
[[ -s $key ]] || ssh-keygen -q -t ed25519 -N '' -C own-kubernetes-join -f "$key"

line="restrict,command=\"sudo -n $LIBRARY/mint.sh\" $(cat "$key.pub")"
[[ $user != root ]] || line=${line/sudo -n /}
keys=$home/.ssh/authorized_keys
grep -qxF "$line" "$keys" 2>/dev/null && exit 0
install -d -m 0700 -o "$user" -g "$(id -gn "$user")" "$home/.ssh"
{ grep -v ' own-kubernetes-join$' "$keys" 2>/dev/null || true; printf '%s\n' "$line"; } |
  put "$keys" 0600 || true
chown "$user:" "$keys"
