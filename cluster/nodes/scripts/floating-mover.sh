#!/usr/bin/env bash
# Keeps every floating IP on a node that is fit to answer for it: watches the nodes, and assigns through
# Hetzner's API. Runs on every control-plane host as own-kubernetes-floating.service.
#
# A node is fit for an address when the health port answers 200 that kube-proxy opens there for load
# balancers: the Service's own (healthCheckNodePort: kube-proxy is well and a pod of the Service is ready
# there) or, for an address that no such Service has, kube-proxy's general one.
#
# Several of these agree without talking to each other: what is carried by a fit node stays, the choice
# of another follows from the fit nodes and the assignments alone, and the assignment is read again before
# it is changed. One that is itself cut off sees no fit node, and changes nothing.
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"

ROUND=2            # seconds between the starts of two looks, and the bound on an answer
UNFIT_AFTER=3      # looks in vain, one after the other
READ_SERVICES=20   # seconds; another Service has an address, or other ports
READ_CARRIERS=60   # seconds; Hetzner allows 3600 requests an hour for the whole project
LONGEST_PAUSE=60   # seconds without a request after errors of the API
ACTION_BOUND=60    # seconds for one assignment
KUBE_PROXY=10256   # what load balancers of all clouds ask (KEP-3836)

SETTINGS=$CONFIG/floating.conf       # lines: endpoint URL | floating-ip ID ADDRESS | node NAME SERVER ADDRESS
CREDENTIALS=$CONFIG/floating.curlrc  # the token, as curl's configuration: in no argument list

api_base=""
ids=()     # of floating IPs
servers=() # of nodes, in the stack file's order
declare -A address_of=() name_of=() node_address=() # of floating IPs by id; of nodes by server
declare -A carrier=() missed=() health_port=() fit=()
carriers_due=0 services_due=0 api_due=0 api_pause=0

load() {
  local what first second third
  while read -r what first second third; do
    case $what in
      endpoint) api_base=$first ;;
      floating-ip) ids+=("$first") address_of[$first]=$second ;;
      node) servers+=("$second") name_of[$second]=$first node_address[$second]=$third ;;
    esac
  done <"$SETTINGS"
}

# api METHOD PATH [BODY]: its JSON in "answer", the status in "status".
api() {
  local method=$1 path=$2 body=${3:-}
  answer=$(curl --disable --config "$CREDENTIALS" --silent --show-error --max-time 10 \
    --request "$method" --header 'Content-Type: application/json' ${body:+--data "$body"} \
    --write-out '\n%{http_code}' "$api_base$path" 2>&1) || answer+=$'\n000'
  status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  if [[ $status == 2?? && $(jq --raw-output type <<<"$answer" 2>/dev/null) == object ]]; then
    api_pause=0
  else
    say "Hetzner's API: $method $path: $status $(why)"
    give_it_a_rest
    return 1
  fi
}

# After an error of the API: no request for a while, longer each time, and then what is true is read anew.
give_it_a_rest() {
  api_pause=$((api_pause ? api_pause * 2 : ROUND))
  ((api_pause <= LONGEST_PAUSE)) || api_pause=$LONGEST_PAUSE
  api_due=$((SECONDS + api_pause))
  carriers_due=0
}

why() { # an error's code and message; else the beginning of what came
  jq --raw-output '"\(.error.code): \(.error.message)"' <<<"$answer" 2>/dev/null ||
    tr '\n' ' ' <<<"$answer" | cut --characters=1-200
}

# Which server carries each floating IP, as the API has it ("null": none).
read_carriers() {
  local id now
  for id in "${ids[@]}"; do
    api GET "/floating_ips/$id" || return 1
    now=$(jq --raw-output '.floating_ip.server // "null"' <<<"$answer")
    [[ $now == "${carrier[$id]:-}" ]] || missed[$id]=0
    carrier[$id]=$now
  done
  carriers_due=$((SECONDS + READ_CARRIERS))
}

# The health port of the Service that has an address. What was known stays when the cluster's API is down.
read_services() {
  local services address port
  services_due=$((SECONDS + READ_SERVICES))
  services=$(kubectl --kubeconfig="$ADMIN" --request-timeout=5s get --raw=/api/v1/services 2>/dev/null |
    jq --raw-output '.items[] | .spec.healthCheckNodePort as $port | select($port) |
      .status.loadBalancer.ingress[]?.ip | "\(.) \($port)"') || return 0
  health_port=()
  while read -r address port; do
    [[ -z $address ]] || health_port[$address]=$port
  done <<<"$services"
}

port_for() { printf '%s\n' "${health_port[${address_of[$1]}]:-$KUBE_PROXY}"; } # FLOATING-IP

# Asks all nodes at once; those that answered 200 are in "fit" by HOST:PORT.
look() {
  local id server port place wanted=()
  for id in "${ids[@]}"; do
    port=$(port_for "$id")
    for server in "${servers[@]}"; do wanted+=("${node_address[$server]}:$port"); done
  done
  fit=()
  while read -r place; do fit[$place]=1; done < <(
    printf '%s\n' "${wanted[@]}" | sort --unique |
      sed 's|.*|url = "http://&/healthz"\noutput = "/dev/null"|' |
      curl --disable --silent --noproxy '*' --parallel --parallel-immediate --max-time "$ROUND" \
        --write-out '%{http_code} %{url}\n' --config - 2>/dev/null |
      sed -n 's|^200 http://\(.*\)/healthz$|\1|p'
  )
}

is_fit() { # SERVER FLOATING-IP
  [[ -n ${node_address[$1]:-} && -n ${fit[${node_address[$1]}:$(port_for "$2")]:-} ]]
}

carries() { # SERVER: how many
  local id count=0
  for id in "${ids[@]}"; do
    if [[ ${carrier[$id]} == "$1" ]]; then ((++count)); fi
  done
  printf '%s\n' "$count"
}

# Prints the fit node that carries least; among equals the first one from the address's own place on, so
# that several addresses are spread.
choose() { # INDEX of a floating IP
  local n server load best="" least=""
  for ((n = 0; n < ${#servers[@]}; n++)); do
    server=${servers[($1 + n) % ${#servers[@]}]}
    is_fit "$server" "${ids[$1]}" || continue
    load=$(carries "$server")
    if [[ -z $best ]] || ((load < least)); then best=$server least=$load; fi
  done
  [[ -n $best ]] && printf '%s\n' "$best"
}

# Waits for the end of the action that is in "answer"; Hetzner assigns within a few seconds.
wait_for_action() {
  local end=$((SECONDS + ACTION_BOUND)) id
  id=$(jq .action.id <<<"$answer")
  while [[ $(jq --raw-output .action.status <<<"$answer") == running ]]; do
    ((SECONDS < end)) || break
    sleep 0.5
    api GET "/actions/$id" || return 1
  done
  [[ $(jq --raw-output .action.status <<<"$answer") != success ]] || return 0
  say "Hetzner's API: action $id: $(jq --compact-output '.action | {status, error}' <<<"$answer")"
  give_it_a_rest
  return 1
}

assign() { # INDEX of a floating IP
  local id=${ids[$1]} before=${carrier[${ids[$1]}]} server
  # Another control plane, or a person, may have been quicker: then looks are counted anew.
  read_carriers || return 1
  [[ ${carrier[$id]} == "$before" || -z ${name_of[${carrier[$id]}]:-} ]] || return 0
  server=$(choose "$1")
  api POST "/floating_ips/$id/actions/assign" "{\"server\": $server}" || return 1
  wait_for_action || return 1
  say "floating IP ${address_of[$id]}: from ${name_of[${carrier[$id]}]:-no node} to ${name_of[$server]}"
  carrier[$id]=$server
  missed[$id]=0
}

# Counts looks in vain at each address's carrier, and moves what has to be moved. What no node of ours
# carries has nothing to wait for.
settle() {
  local n id
  for n in "${!ids[@]}"; do
    id=${ids[$n]}
    if is_fit "${carrier[$id]}" "$id"; then
      missed[$id]=0
      continue
    fi
    ((++missed[$id]))
    [[ -z ${name_of[${carrier[$id]}]:-} ]] || ((missed[$id] >= UNFIT_AFTER)) || continue
    choose "$n" >/dev/null || continue # none is fit: let it be where it is
    ((SECONDS < api_due)) || assign "$n" || return 1
  done
}

round() {
  ((SECONDS < services_due)) || read_services
  look
  if ((SECONDS >= carriers_due && SECONDS >= api_due)); then read_carriers || true; fi
  [[ ${#carrier[@]} -lt ${#ids[@]} ]] || settle
}

main() {
  local began rest
  load
  say "watching ${#servers[@]} nodes for ${#ids[@]} floating IPs"
  while true; do
    began=${EPOCHREALTIME/./}
    round || true
    rest=$((ROUND * 1000000 - (${EPOCHREALTIME/./} - began)))
    ((rest <= 0)) || sleep "$((rest / 1000000)).$(printf '%06d' $((rest % 1000000)))"
  done
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main; fi
