# shellcheck shell=bash
# The control planes, as a host of the cluster knows them: from stdin, in memory only. Sourced after lib.sh.
#
#   host NAME USER ADDRESS PORT KEY-TYPE KEY     a control plane, in the stack file's order
#   admit ROLE KEY-TYPE KEY                      whose requests a control plane answers (see door.sh)
#   open AGE-SECRET-KEY-...                      what opens the snapshot that the cluster is brought back from
#   -----BEGIN ...                               the private key for this host's own requests

PEERS=$RUNTIME/peers      # lines "NAME USER ADDRESS PORT"
PEER_KEYS=$RUNTIME/known-hosts
DOOR_KEY=$RUNTIME/door-key
ADMITTED=$RUNTIME/admitted # lines "ROLE KEY-TYPE KEY"
IDENTITY=$RUNTIME/identity # an age key (recovery.sh)
SECRETS=("$PEERS" "$PEER_KEYS" "$DOOR_KEY" "$ADMITTED" "$IDENTITY" "$RUNTIME"/{join,discovery}.yaml)

check_ours() {
  refuse_foreign_cluster
  local found
  found=$(cat "$STATE/cluster" 2>/dev/null || true)
  [[ -z $found || $found == "$CLUSTER" ]] ||
    fail "this host belongs to our cluster '$found'" "a host of cluster '$CLUSTER'" \
      "destroy the other stack first, or take this host out of it"
}

# Removed when the script ends.
forget_secrets() { rm -rf "${SECRETS[@]}"; }

take_peers() {
  local word rest name user address port key
  : >"$PEERS"
  : >"$PEER_KEYS"
  : >"$ADMITTED"
  while read -r word rest; do
    case $word in
      host)
        read -r name user address port key <<<"$rest"
        printf '%s %s %s %s\n' "$name" "$user" "$address" "$port" >>"$PEERS"
        # A port other than 22 goes with the address (sshd(8)).
        if [[ $port == 22 ]]; then printf '%s %s\n' "$address" "$key"; else printf '[%s]:%s %s\n' "$address" "$port" "$key"; fi >>"$PEER_KEYS"
        ;;
      admit) printf '%s\n' "$rest" >>"$ADMITTED" ;;
      open) printf '%s\n' "$rest" >"$IDENTITY" ;;
      -----BEGIN)
        { printf '%s %s\n' "$word" "$rest"; cat; } >"$DOOR_KEY"
        ;;
    esac
  done
}

# ask_one USER ADDRESS PORT REQUEST [FILE]: its host key was given by the program. FILE is the request's stdin.
ask_one() {
  ssh -F none -T -i "$DOOR_KEY" -p "$3" -o BatchMode=yes -o IdentitiesOnly=yes \
    -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$PEER_KEYS" -o GlobalKnownHostsFile=none \
    -o ConnectTimeout=5 -o ServerAliveInterval=10 -o LogLevel=ERROR "$1@$2" "$4" <"${5:-/dev/null}"
}

NOT_REACHED=255 # ssh's own

# ask REQUEST: of the first control plane that is well and is not this host; prints its answer.
ask() {
  local name user address port status
  while read -r name user address port <&4; do
    [[ $name != "$NODE" ]] || continue
    status=0
    ask_one "$user" "$address" "$port" "$1" || status=$?
    ((status == NOT_WELL || status == NOT_REACHED)) || return "$status"
  done 4<"$PEERS"
  say "no control plane answers for cluster $CLUSTER: $(awk '{print $1 " (" $3 ")"}' "$PEERS" | xargs)"
  return 1
}

# ask_all REQUEST: of all others that can be reached; what they say does not count.
ask_all() {
  local name user address port
  while read -r name user address port <&4; do
    [[ $name == "$NODE" ]] || ask_one "$user" "$address" "$port" "$1" >/dev/null 2>&1 || true
  done 4<"$PEERS"
}

with_minted() { # FILE: prints it with what was minted; by the shell itself, as a token is no argument
  local text
  text=$(<"$1")
  text=${text//@CA@/"$ca"}
  text=${text//@SERVER@/"$server"}
  text=${text//@TOKEN@/"$token"}
  printf '%s\n' "${text//@PROVIDER_ID@/${PROVIDER_ID:-}}"
}

kubeadm_join() { # JOIN-CONFIGURATION
  local token ca server
  # The cluster's CA comes over SSH, with the token: kubeadm trusts it by a file, and need not wait until
  # the cluster has signed its public cluster-info with the new token (steps of 5 s).
  read -r token ca server <<<"$answer"
  umask 077
  with_minted "$CONFIG/discovery.yaml" >"$RUNTIME/discovery.yaml"
  with_minted "$1" >"$RUNTIME/join.yaml"
  with_images kubeadm join --config="$RUNTIME/join.yaml"
}

mint() { answer=$(ask "mint $NODE $(cat "$CONFIG/internal-address") $(kubeadm_version)"); }

get_token() {
  step "token from a control plane" retry 120 mint ||
    fail "no token from a control plane" "SSH from this host to one that is well" \
      "open the control planes' SSH port to this host's address"
}

# join_cluster JOIN-CONFIGURATION: mints at every try; the token is deleted as soon as it was used.
join_cluster() {
  local end=$((SECONDS + 1800))
  wait_for_address
  get_token
  while [[ $answer == "older "* ]]; do
    ((SECONDS < end)) || fail "a control plane still runs Kubernetes ${answer#older }" \
      "all of them upgraded to $(kubeadm_version), which is installed here" \
      "see what holds their upgrade up, then run 'pulumi up' again"
    say "waiting for the upgrade of a control plane that runs ${answer#older }"
    sleep 5
    get_token
  done
  ask_all "open $(cat "$CONFIG/internal-address")"
  step "kubeadm join" kubeadm_join "$1"
  set_stage member
  ask "forget ${answer%%.*}" || say "the token was not deleted; it ends by itself in 15 minutes"
}
