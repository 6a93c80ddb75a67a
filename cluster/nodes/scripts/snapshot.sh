#!/usr/bin/env bash
# Takes a snapshot of the cluster from this control plane, encrypted for the age key that the settings name, keeps
# the last few of them, and uploads it where that is wanted. Run by own-kubernetes-backup.service (backup.sh).
#
# CLUSTER-NODE-TIME.tar.age holds what recovery.sh needs: kubeadm's configuration of the cluster, the cluster's
# keys, etcd's data. In clear these are brought together for seconds only, in etcd's own folder: beside the same
# data, and for root alone like them.
set -euo pipefail
umask 077
# shellcheck source=cluster/nodes/scripts/lib.sh
source "$(dirname "$(readlink -f "$0")")/lib.sh"
# shellcheck source=cluster/nodes/scripts/cluster.sh
source "$(dirname "$(readlink -f "$0")")/cluster.sh"

SETTINGS=$CONFIG/backup.conf             # lines "KEY VALUE"
CREDENTIALS=$CONFIG/backup.curlrc        # the storage's, as curl's configuration: in no argument list
WORK=/var/lib/etcd/own-kubernetes-backup # etcd's container can write there

forget_secrets() { rm -rf "$WORK" "${part:-}"; }

setting() { awk -v key="$1" '$1 == key {print $2}' "$SETTINGS"; } # KEY

check_member() {
  [[ $(stage) == member ]] || fail "this host is in no cluster of ours" "a control plane that has joined" \
    "run 'pulumi up' first"
  # After a boot, etcd and the API server may take a while.
  wait_for 180 "the API server of $(hostname)" api_ready ||
    fail "the API server does not answer" "a healthy API server" \
      "look at 'crictl ps -a' and 'journalctl -u kubelet' on this host"
}

gather() {
  mkdir -p "$WORK" "$RUNTIME"
  kube --namespace=kube-system get configmap kubeadm-config \
    --output=jsonpath='{.data.ClusterConfiguration}' >"$WORK/cluster.yaml" &&
    etcdctl_here --command-timeout=30m snapshot save "$WORK/etcd.db" >&2
}

encrypt() { # FILE
  mkdir -p "$(dirname "$1")"
  tar --create --directory="$WORK" cluster.yaml --directory=/etc/kubernetes "${CLUSTER_KEYS[@]/#/pki/}" \
    --directory="$WORK" etcd.db | age --encrypt --recipient "$(setting recipient)" --output "$1"
}

prune() { # NAME: of the snapshots without their time
  local old
  mapfile -t old < <(printf '%s\n' "$1"-????????T??????Z.tar.age | sort --reverse |
    tail --lines="+$(($(setting keep) + 1))")
  ((${#old[@]} == 0)) || rm -f "${old[@]}"
}

# S3 wants the content's digest in the signed request. What waiting does not mend is said at once.
upload() { # FILE
  local answer status digest
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  answer=$(curl --disable --config "$CREDENTIALS" --silent --show-error --connect-timeout 20 \
    --speed-limit 1 --speed-time 60 --upload-file "$1" --header "x-amz-content-sha256: $digest" \
    --write-out '\n%{http_code}' "$(setting url)/${1##*/}" 2>&1) || answer+=$'\n000'
  status=${answer##*$'\n'}
  [[ $status != 2?? ]] || return 0
  say "$(setting url): $status $(tr '\n' ' ' <<<"${answer%$'\n'*}" | cut --bytes=1-300)"
  [[ $status != 4?? ]] || fail "the storage refuses the snapshot ($status, above)" \
    "a bucket that the credentials may write to" \
    "correct backup.s3, or run 'pulumi config set --secret backupS3Credentials', then 'pulumi up'"
  return 1
}

name=$(setting directory)/$(setting cluster)-$(setting node)
check_member
rm -rf "$WORK" "$name"-*.part # of a run that was cut off
part=$name-$(date --utc +%Y%m%dT%H%M%SZ).tar.age.part
gather || fail "no snapshot of etcd" "etcd and the API server well, and room in /var/lib/etcd for its data once more" \
  "look at the lines above and at 'crictl ps -a' on this host"
encrypt "$part" || fail "the snapshot could not be written to $(setting directory)" \
  "room there, and the age key of the settings" "look at the lines above; make room or set backup.directory"
rm -rf "$WORK"
file=${part%.part}
mv "$part" "$file"
prune "$name"
say "snapshot $file ($(stat --format=%s "$file") bytes)"
if [[ -n $(setting url) ]]; then
  retry 120 upload "$file" || fail "the snapshot could not be uploaded to $(setting url)" \
    "an answer of the storage" "see that this host reaches it; the snapshot is kept here meanwhile"
  say "uploaded to $(setting url)"
fi
