#!/usr/bin/env bash
# The node's own packet filter (/etc/own-kubernetes/firewall.nft), and who is a node there.
#
#   load            the rules, with the nodes known last; replaces what was loaded
#   open ADDRESS    lets a host that is about to join reach the API server, for 15 minutes
#   sync            the nodes' addresses, as the cluster has them; own-kubernetes-nodes.timer runs it
#   follow          starts that timer
#
# So a node that joins or leaves changes nothing in the files of the others.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"

RULES=$CONFIG/firewall.nft
NODES=$STATE/nodes        # addresses, kept over a reboot
JOINING=$RUNTIME/let-in   # likewise, of those that were let in since

elements() { # SET FILE [TIMEOUT]: what puts the file's addresses into a set that the rules have
  local address
  [[ -s $2 ]] && grep -q "set $1 " "$RULES" || return 0
  while read -r address; do
    printf 'add element inet own_kubernetes %s { %s%s }\n' "$1" "$address" "${3:+ timeout $3}"
  done <"$2"
}

load() { { cat "$RULES"; elements nodes4 "$NODES"; elements joining4 "$JOINING" 15m; } | nft --file -; }

open() { # ADDRESS
  [[ ! -e $RULES ]] || nft add element inet own_kubernetes joining4 "{ $1 timeout 15m }"
  printf '%s\n' "$1" >>"$JOINING"
}

sync_nodes() {
  [[ -e $ADMIN && $(stage) == member && -e $RULES ]] || return 0
  kube get nodes --output=jsonpath='{range .items[*]}{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}' |
    grep -E '^[0-9.]+$' | sort --unique >"$RUNTIME/nodes" || return 0 # no answer now; the next look may have one
  put "$NODES" <"$RUNTIME/nodes"
  [[ $CHANGED == true ]] || return 0
  put "$JOINING" < <(grep -vxFf "$NODES" "$JOINING" 2>/dev/null || true) # who has joined is a node now
  load
}

follow() {
  install -m 0644 "$LIBRARY"/own-kubernetes-nodes.{service,timer} /etc/systemd/system/
  systemctl daemon-reload
  systemctl enable --quiet --now own-kubernetes-nodes.timer
}

mkdir -p "$RUNTIME"
case ${1:-} in
  load) load ;;
  open) open "$2" ;;
  sync) sync_nodes ;;
  follow) follow ;;
  *) fail "firewall.sh ${1:-}" "load, open, sync or follow" "see the top of $0" ;;
esac
