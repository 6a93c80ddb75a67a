#!/usr/bin/env bash
# Makes, once, the secrets that the cluster's parts share. One is a key pair whose public half may only run
# mint.sh: joining hosts ask this control plane for a token with it, and can do nothing else.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

user=$(cat "$CONFIG/login-user")
home=$(getent passwd "$user" | cut -d: -f6)
key=$STATE/join-key
memberlist=$STATE/memberlist-key # MetalLB's speakers know each other by it
[[ -s $memberlist ]] || (umask 077 && openssl rand -base64 96 | tr -d '\n' >"$memberlist")
[[ -s $key ]] || ssh-keygen -q -t ed25519 -N '' -C own-kubernetes-join -f "$key"

mint=$LIBRARY/mint.sh
# sudo drops the variable in which sshd hands the request over.
[[ $user == root ]] || mint="sudo -n $mint \\\"\$SSH_ORIGINAL_COMMAND\\\""
line="restrict,command=\"$mint\" $(cat "$key.pub")"
keys=$home/.ssh/authorized_keys
grep -qxF "$line" "$keys" 2>/dev/null && exit 0
install -d -m 0700 -o "$user" -g "$(id -gn "$user")" "$home/.ssh"
others=$(grep -v ' own-kubernetes-join$' "$keys" 2>/dev/null || true)
put "$keys" 0600 <<<"${others:+$others$'\n'}$line"
chown "$user:" "$keys"
