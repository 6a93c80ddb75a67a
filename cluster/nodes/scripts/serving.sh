#!/usr/bin/env bash
# Approves the certificates that kubelets ask for to serve with (their API: logs, exec, metrics), which the cluster then
# signs; own-kubernetes-nodes.timer runs it. A kubelet renews its own long before it expires.
#
# Kubernetes leaves this to whoever knows the machines: a kubelet tells its addresses itself, and one that was taken
# over may tell others'. So a node gets a certificate for its own name only, and for no address that another node or
# the API server has. That the request comes of that node's own credentials, the API server has seen to; usages and
# form are looked at once more by the signer (kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests).
set -euo pipefail
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"

SIGNER=kubernetes.io/kubelet-serving

# Lines "NAME MEMBER REQUEST USER" of what nobody has decided on yet; MEMBER is "yes" for one of the group of nodes.
requests() {
  # shellcheck disable=SC2016 # a template, not a variable
  kube get certificatesigningrequests --field-selector="spec.signerName=$SIGNER" --output=go-template='
    {{- range .items}}{{if not .status.conditions}}
    {{- $member := "no"}}{{range .spec.groups}}{{if eq . "system:nodes"}}{{$member = "yes"}}{{end}}{{end}}
    {{- .metadata.name}} {{$member}} {{.spec.request}} {{.spec.username}}{{"\n"}}
    {{- end}}{{end}}'
}

addresses() { # lines "NODE ADDRESS"
  # shellcheck disable=SC2016 # a template, not a variable
  kube get nodes --output=go-template='
    {{- range .items}}{{$name := .metadata.name}}{{range .status.addresses}}{{$name}} {{.address}}{{"\n"}}{{end}}{{end}}'
}

# What a request or certificate on stdin is for, a line for each: "DNS:w1", "IP Address:10.0.0.21".
alternative_names() { sed -n '/Subject Alternative Name/ {n; s/^ *//; s/, /\n/g; p}'; }

# Those of the API server, but for this host's own, which is its kubelet's as well.
api_addresses() {
  openssl x509 -in "$PKI/apiserver.crt" -noout -text | alternative_names | grep -vxF "IP Address:$(cat "$CONFIG/internal-address")"
}

belongs() { # NODE ALTERNATIVE-NAME
  local address=${2#"IP Address:"}
  case $2 in
    # A cloud's server is called after its cluster, too.
    "DNS:$1" | "DNS:$(cat "$STATE/cluster")-$1") return 0 ;;
    "IP Address:127."*) return 1 ;;
    "IP Address:"*) ;;
    *) return 1 ;;
  esac
  grep -qxF "$1 $address" <<<"$known" && ! awk -v node="$1" '$1 != node {print $2}' <<<"$known" | grep -qxF "$address" &&
    ! api_addresses | grep -qxF "$2"
}

# Prints what is wrong with a request, or nothing.
fault() { # MEMBER REQUEST USER
  local node=${3#system:node:} text names name
  [[ $3 == system:node:* && $1 == yes ]] || { printf 'not by a node'; return; }
  text=$(base64 --decode <<<"$2" | openssl req -noout -text -subject -nameopt RFC2253) || { printf 'not readable'; return; }
  grep -qxF "subject=CN=$3,O=system:nodes" <<<"$text" || { printf 'for another subject'; return; }
  names=$(alternative_names <<<"$text")
  [[ -n $names ]] || { printf 'for no name'; return; }
  while read -r name; do
    belongs "$node" "$name" || { printf 'for %s' "$name"; return; }
  done <<<"$names"
}

[[ $(stage) == member ]] || exit 0
pending=$(requests) || exit 0 # no answer now; the next look may have one
[[ -n $pending ]] || exit 0
known=$(addresses)
while read -r name member request user; do
  wrong=$(fault "$member" "$request" "$user")
  if [[ -z $wrong ]]; then
    kube certificate approve "$name" >&2
  else
    say "$name of $user is not approved: it is $wrong"
  fi
done <<<"$pending"
