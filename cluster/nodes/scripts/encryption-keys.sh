# shellcheck shell=bash
# The keys that this control plane's API server encrypts Secrets with before they go to etcd. Sourced after
# cluster.sh, never run.
#
# They lie with the cluster's own keys: who joins gets them, and snapshots hold them. The file has entries in the
# order in which they are tried: the first one encrypts, each one decrypts; "identity" is what is in clear.

ENCRYPTION=$PKI/encryption.yaml
LOADED=$STATE/encryption # the entries, without their secrets, as the running API server has read them

encryption_file() { # lines "NAME SECRET" and "identity" on stdin
  local name secret
  printf '%s\n' "apiVersion: apiserver.config.k8s.io/v1" "kind: EncryptionConfiguration" "resources:" \
    "- resources: [secrets]" "  providers:"
  while read -r name secret; do
    if [[ $name == identity ]]; then
      printf '  - identity: {}\n'
    else
      printf '  - secretbox: {keys: [{name: %s, secret: %s}]}\n' "$name" "$secret"
    fi
  done
}

encryption_entries() { # FILE: the lines that it was made of
  sed -nE 's/^  - identity: .*/identity/p; s/.*\{name: ([^,]+), secret: ([^}]+)\}.*/\1 \2/p' "$1"
}

encryption_names() { # FILE: a line for each entry, with a digest that tells keys of one name apart
  local name secret
  while read -r name secret; do
    printf '%s%s\n' "$name" "${secret:+ $(sha256sum <<<"$secret" | cut --characters=1-8)}"
  done < <(encryption_entries "$1")
}

new_encryption_key() { head --bytes=32 /dev/urandom | base64 --wrap=0; }

# start_encryption [NAME]: before this host's first API server. A new cluster has a key of that name from its first
# Secret on; one that is older has none, until all of its control planes can have it (encryption.sh).
start_encryption() {
  [[ ! -e $ENCRYPTION ]] || return 0
  {
    [[ -z ${1:-} ]] || printf '%s %s\n' "$1" "$(new_encryption_key)"
    printf 'identity\n'
  } | encryption_file | put "$ENCRYPTION" 0600
}

encryption_is_loaded() { encryption_names "$ENCRYPTION" | put "$LOADED"; }

# What is asked of it just now has 5 s to be answered; until its watches have ended a minute would pass, in which it
# takes no other requests.
restart_api_server() {
  crictl ps --name='^kube-apiserver$' --state=Running --quiet | xargs --no-run-if-empty crictl stop --timeout=5 &&
    wait_for 180 "the API server of $(hostname)" api_ready
}

# The file on stdin, in place of the one that is here. When this is cut off, nothing says that it is loaded.
take_encryption() {
  rm -f "$LOADED"
  put "$ENCRYPTION" 0600
  restart_api_server >&2 && encryption_is_loaded
}
