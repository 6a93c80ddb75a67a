#!/usr/bin/env bash
# Brings all control planes to one key for the Secrets in etcd, in the order that loses nothing
# (kubernetes.io/docs/tasks/administer-cluster/encrypt-data, "Rotate a decryption key"): each can decrypt with the new
# key, then each encrypts with it, then all Secrets are written anew, then each forgets the old one. Control planes go one
# after the other, each API server well before the next, and this host last: what it has, all others have.
#
# What each of them has loaded tells how far it is, so that a run that broke off is gone on with.
#
# NODE       this node's name
# ROTATION   any word; another one than last time makes a new key. Without it, the key that is there stays
# stdin      the control planes and the key to ask them with (peers.sh)
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/peers.sh
source "$(dirname "$(readlink -f "$0")")/peers.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"
# shellcheck source=cluster/nodes/scripts/encryption-keys.sh
source "$(dirname "$(readlink -f "$0")")/encryption-keys.sh"
: "${NODE:?}"

NEXT=$RUNTIME/encryption.yaml # what a pass gives to those that have not got there
SECRETS+=("$NEXT")

named() { awk -v key="$KEY" '$1 == key'; }
entries() { encryption_entries "$ENCRYPTION"; }
name_of() { encryption_names "$1" | named; } # FILE: the key's name and digest there
first_key() { entries | awk '$1 != "identity" {print $1; exit}'; }

# Whether a control plane, by the names on stdin, is as a pass leaves it; "id" is the key's name and digest.
can_decrypt() { grep -qxF -- "$id"; }
encrypts() { [[ $(head -n 1) == "$id" ]]; }
has_no_other() { [[ $(cat) == "$id"$'\n'identity ]]; }

# What a pass leaves, from what this host has. A key that is not there yet is made.
entry() {
  local found
  found=$(entries | named)
  printf '%s\n' "${found:-$KEY $(new_encryption_key)}"
}
entries_can_decrypt() {
  entries
  [[ -n $(entries | named) ]] || entry
}
entries_encrypts() {
  entry
  entries | awk -v key="$KEY" '$1 != key'
}
entries_has_no_other() {
  entry
  printf 'identity\n'
}

loaded_here() { cat "$LOADED" 2>/dev/null || true; }

loaded_at() { # NAME USER ADDRESS PORT
  retry 60 ask_one "$2" "$3" "$4" encryption ||
    fail "control plane $1 does not tell which keys it has" "every control plane well while keys change" \
      "bring it back or take it out of the stack file, then run 'pulumi up' again"
}

pass() { # can_decrypt, encrypts or has_no_other
  local id name user address port loaded
  (umask 077 && "entries_$1" | encryption_file >"$NEXT")
  id=$(name_of "$NEXT")
  while read -r name user address port <&4; do
    [[ $name != "$NODE" ]] || continue
    loaded=$(loaded_at "$name" "$user" "$address" "$port")
    "$1" <<<"$loaded" || step "$name ${1//_/ }" ask_one "$user" "$address" "$port" "encryption take" "$NEXT" ||
      fail "control plane $name did not take the keys" "its API server well with them" \
        "look at 'crictl ps -a' and 'journalctl -u kubelet' there, then run 'pulumi up' again"
  done 4<"$PEERS"
  "$1" < <(loaded_here) || step "$NODE ${1//_/ }" take_encryption <"$NEXT" ||
    fail "this control plane did not take the keys" "its API server well with them" \
      "look at 'crictl ps -a' and 'journalctl -u kubelet' on this host, then run 'pulumi up' again"
}

all_are_there() {
  local id name user address port
  id=$(name_of "$ENCRYPTION")
  [[ -n $id ]] && has_no_other < <(loaded_here) || return 1
  while read -r name user address port <&4; do
    [[ $name == "$NODE" ]] || has_no_other < <(ask_one "$user" "$address" "$port" encryption 2>/dev/null) || return 1
  done 4<"$PEERS"
}

# As they are: the API server writes what is not encrypted with its first key. It fails where somebody else changes or
# deletes one meanwhile, and is done again.
rewrite() { kubectl_here get secrets --all-namespaces --output=json | kubectl_here replace --filename=- >/dev/null; }

# In etcd itself: how many values do not begin as the key makes them begin. In base64 three bytes are four letters.
not_rewritten() {
  local mark="k8s:enc:secretbox:v1:$KEY:" thirds
  ((thirds = ${#mark} / 3))
  mark=$(printf '%s' "${mark:0:thirds * 3}" | base64 --wrap=0)
  etcdctl_here get --prefix /registry/secrets/ --write-out=json | tr ',{}' '\n' |
    awk -v mark="\"value\":\"$mark" '/^"value":/ && index($0, mark) != 1 {count++} END {print count + 0}'
}

rewrite_all() {
  local left
  retry 300 rewrite && left=$(not_rewritten) && ((left == 0))
}

(umask 077 && take_peers)
KEY=${ROTATION:+key-$ROTATION}
KEY=${KEY:-$(first_key)}
KEY=${KEY:-key}
! all_are_there || exit 0
say "Secrets in etcd: $KEY on every control plane"
step "API server" wait_for 180 "the API server of $(hostname)" api_ready
[[ $(wc -l <"$PEERS") == 1 ]] || pass can_decrypt # else there is none that could meet with what it can't read
pass encrypts
step "Secrets written anew" rewrite_all ||
  fail "not every Secret is encrypted with $KEY yet" "each one read and written once more by the API server" \
    "look at the lines above, then run 'pulumi up' again: the old key stays until then"
pass has_no_other
