# shellcheck shell=bash
# Shared by all host scripts: places, progress, errors, bounded waiting.
# Progress and errors go to stderr, results to stdout, what the commands of a step print to a file of its
# own, whose end is shown when the script fails. Sourced, never run.

export LIBRARY=/usr/local/lib/own-kubernetes # these scripts, owned by root
export CONFIG=/etc/own-kubernetes            # what the program wants of this host
export STATE=/var/lib/own-kubernetes         # what was found here and what was done, for restore
export APPLIED=$STATE/settings               # digest of the settings for kubelets that this node has
export RUNTIME=/run/own-kubernetes           # secrets and results in flight: memory only, root only
export ADMITTED_AS=own-kubernetes-door       # the comment of our lines in authorized_keys
export ADMIN=/etc/kubernetes/admin.conf
export UPDATES=/etc/apt/apt.conf.d/90own-kubernetes # of the host's own system (updates.sh)
export KUBECACHEDIR=$RUNTIME/kubectl         # nothing of ours in a home
export NOT_WELL=75   # exit status: this control plane is not well, another one is to be asked
export NO_CLUSTER=76 # exit status: this host is a member of no cluster
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

exec 3>&2 # stderr, also from within a step
DETAIL=${DETAIL:-/dev/null}
# without_secrets: what commands said, without private keys, tokens and whatever may be a key by its form.
# Digests keep their first 12 digits, by which they can be told apart.
without_secrets() {
  sed -E -e '/-----BEGIN [A-Z ]*PRIVATE KEY-----/,/-----END /c\[secret]' \
    -e 's/\b([0-9a-f]{12})[0-9a-f]{52}\b/\1/g' \
    -e 's/\b[a-z0-9]{6}\.[a-z0-9]{16}\b/[secret]/g' \
    -e 's/\beyJ[A-Za-z0-9_.-]{20,}/[secret]/g' \
    -e 's/\bAGE-SECRET-KEY-[A-Z0-9]+/[secret]/g' \
    -e 's|//[^/@ ]+:[^/@ ]+@|//[secret]@|g' \
    -e 's/((password|passphrase|secret|token)[a-z_-]*["'"'"']?[ \t]*[:=][ \t]*)[^ \t]+/\1[secret]/Ig' \
    -e 's|[A-Za-z0-9+/]{40,}=*|[secret]|g'
}

# The end of what the commands said, without kubeadm's list of kernel features; lines are cut, as
# pulumi-command hangs at one of more than 64 KiB.
detail() {
  { grep -avE '(CONFIG|CGROUPS)_' "$DETAIL" || true; } 2>/dev/null | without_secrets | tail --lines=15 |
    cut --bytes=1-500
}

forget_secrets() { :; } # a script's own, if it has any
finish() {
  local status=$?
  forget_secrets
  ((status == 0)) || detail >&3 || true
  exit "$status"
}
trap finish EXIT

say() { printf '%s\n' "$*" >&3; }

# fail WHAT EXPECTED REMEDY: ends the script with an error that can be acted on.
fail() {
  say "error on $(hostname): $1"
  say "  expected: $2"
  say "  remedy:   $3"
  exit 1
}

# step TEXT COMMAND...: runs a command and says how long it took. A failure
# ends the script (set -e), or is the step's own status where that is asked for (step ... || fail ...).
step() {
  local text=$1 began=${EPOCHREALTIME/./} spent status
  shift
  "$@" >>"$DETAIL" 2>&1
  status=$?
  spent=$(((${EPOCHREALTIME/./} - began) / 100000))
  say "$text: $((spent / 10)).$((spent % 10)) s"
  return "$status"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; fails by name when it never does.
wait_for() {
  local bound=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { say "waited ${bound} s in vain: $what"; return 1; }
    sleep 0.3
  done
}

# retry SECONDS COMMAND...: again with growing pauses while it fails, bounded.
retry() {
  local end=$((SECONDS + $1)) pause=1
  shift
  until "$@"; do
    ((SECONDS + pause <= end)) || return 1
    say "trying again in ${pause} s: $1"
    sleep "$pause"
    ((pause = pause < 15 ? pause * 2 : 15))
  done
}

# put PATH [MODE]: writes stdin to a file, whole or not at all, and tells in CHANGED whether it was another.
put() {
  local path=$1 mode=${2:-0644} new
  mkdir -p "$(dirname "$path")"
  new=$(mktemp "$path.XXXXXX")
  cat >"$new"
  chmod "$mode" "$new"
  if cmp -s "$new" "$path"; then
    rm -f "$new"
    CHANGED=false
  else
    mv -f "$new" "$path"
    export CHANGED=true
  fi
}

# The stage of this node's life that our own marker tells: "", "init", "join" (begun), "member".
stage() { cat "$STATE/stage" 2>/dev/null || true; }
set_stage() { put "$STATE/stage" <<<"$1"; }

# A foreign cluster on this host is never touched.
refuse_foreign_cluster() {
  [[ -z $(stage) ]] || return 0
  local sign
  for sign in /etc/kubernetes/kubelet.conf /etc/kubernetes/admin.conf \
    /etc/kubernetes/manifests/kube-apiserver.yaml /var/lib/etcd/member; do
    [[ ! -e $sign ]] || fail "a Kubernetes node that this program did not make ($sign)" \
      "a host that belongs to no cluster" \
      "choose another host, or run 'kubeadm reset' here if that cluster may go"
  done
}

# What is installed here, like 1.36.4; fails where nothing is.
installed_version() {
  local version
  version=$(dpkg-query --show --showformat '${Version}' "$1" 2>/dev/null) && [[ -n $version ]] || return 1
  printf '%s\n' "${version%%-*}"
}
kubeadm_version() { installed_version kubeadm; }
kubelet_version() { installed_version kubelet; }

# with_images COMMAND...: kubeadm asks for the control plane's images before it does anything, and gives up at
# once where their registry does not answer.
with_images() {
  "$@" && return
  grep -q '\[ERROR ImagePull\]' <(tail --lines=50 "$DETAIL") || return 1
  retry 120 kubeadm config images pull --kubernetes-version "v$(kubeadm_version)" || return 1
  "$@"
}

# The interface that has an address.
device_of() { ip -4 -oneline address show | awk -v address="$1/" 'index($4, address) == 1 {print $2; exit}'; }

# The address between the nodes; a cloud server's private network is plugged in some time after its boot.
has_address() { ip -4 -oneline address show | grep -F " $1/"; }
wait_for_address() {
  local address
  address=$(cat "$CONFIG/internal-address")
  wait_for 120 "the address $address on this host" has_address "$address" ||
    fail "no interface has the address $address" "the node's internal address on one of its interfaces" \
      "correct privateAddress (or address) of this node, or give the host that address"
}
