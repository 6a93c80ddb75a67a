#!/usr/bin/env bash
# Installs the service that keeps floating IPs on fit nodes, and ends when each is assigned; or takes it away.
#
# ENDPOINT       of Hetzner's API
# FLOATING_IPS   ID=ADDRESS of each, with commas between
# NODES          NAME=SERVER=ADDRESS of each node that may carry them, likewise; the address between the nodes
# REMOVE         true: take the service and its files away (needs nothing else)
# stdin          the API token
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/floating-mover.sh
source "$(dirname "$(readlink -f "$0")")/floating-mover.sh"
# shellcheck source=cluster/nodes/scripts/packages.sh
source "$(dirname "$(readlink -f "$0")")/packages.sh"

SERVICE=own-kubernetes-floating.service
UNIT=/etc/systemd/system/$SERVICE

remove() {
  systemctl disable --now --quiet "$SERVICE" 2>/dev/null || true
  rm -f "$UNIT" "$SETTINGS" "$CREDENTIALS"
  systemctl daemon-reload
}

install_tools() {
  local tool missing=()
  for tool in curl jq; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  ((${#missing[@]})) || return 0
  retry 120 get_packages install --no-install-recommends "${missing[@]}"
}

write_files() {
  local token
  read -r token || true
  [[ $token =~ ^[A-Za-z0-9]+$ ]] ||
    fail "the API token is not made of letters and digits" "a token of the project" \
      "copy it once more from Hetzner's console"
  put "$CREDENTIALS" 0600 <<<"header = \"Authorization: Bearer $token\""
  put "$SETTINGS" < <(
    printf 'endpoint %s\n' "$ENDPOINT"
    tr ',=' '\n ' <<<"$FLOATING_IPS" | sed 's/^/floating-ip /'
    tr ',=' '\n ' <<<"$NODES" | sed 's/^/node /'
  )
}

check_access() { # what no waiting mends is said at once
  local id
  for id in "${ids[@]}"; do
    api GET "/floating_ips/$id" && continue
    case $status in
      401 | 403) fail "Hetzner's API refuses the token: $(why)" "a token that may read and write" \
        "set hcloud:token to such a token of the project" ;;
      404) fail "there is no floating IP $id in the project of the token" "floating IP ${address_of[$id]}" \
        "run 'pulumi refresh' and then 'pulumi up' again" ;;
    esac
  done
}

start() {
  install -m 0644 "$LIBRARY/$SERVICE" "$UNIT"
  systemctl daemon-reload
  systemctl enable --quiet "$SERVICE"
  systemctl restart "$SERVICE"
}

all_assigned() {
  local id
  sleep 0.7 # the API counts requests
  read_carriers || return 1
  for id in "${ids[@]}"; do
    [[ -n ${name_of[${carrier[$id]}]:-} ]] || return 1
  done
}

if [[ ${REMOVE:-} == true ]]; then
  remove
  exit 0
fi
: "${ENDPOINT:?}" "${FLOATING_IPS:?}" "${NODES:?}"
step "curl and jq" install_tools || fail "curl or jq is not installed" "both, from the distribution" \
  "look at the lines above: they name the package source that did not answer"
write_files
load
check_access
step "service for floating IPs" start
step "floating IPs assigned" wait_for 180 "each floating IP on a node" all_assigned || {
  journalctl --unit="$SERVICE" --lines=5 --no-pager >>"$DETAIL" 2>&1 || true
  fail "not every floating IP is assigned to a node" "each within 180 s" \
    "look at 'journalctl -u $SERVICE' on this host"
}
