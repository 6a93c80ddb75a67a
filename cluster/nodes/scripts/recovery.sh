# shellcheck shell=bash
# Brings the data of a lost cluster onto its first control plane, from a snapshot (snapshot.sh), around kubeadm
# init. Sourced after peers.sh, cluster.sh and packages.sh, never run.
#
# Whatever is half done here is reset with the rest of an unfinished init, and done again.

SNAPSHOT=$STATE/recovery/snapshot.tar.age       # receive.sh has put it there
RECOVERED=/var/lib/etcd/own-kubernetes-recovery # what is in it, beside what becomes of it
SECRETS+=("$RECOVERED")

# Clients have seen later revisions than the snapshot's: such a leap, and all before it compacted, makes them read
# everything anew instead of waiting for what they know already (etcd.io/docs, disaster recovery).
REVISIONS=1000000000

check_given() {
  [[ -s $SNAPSHOT ]] || fail "there is no snapshot on this host" "$SNAPSHOT, sent by the program" "run 'pulumi up' again"
  [[ -s $IDENTITY ]] || fail "there is no age key to open the snapshot with" "the setting recoveryKey" \
    "run 'pulumi config set --secret recoveryKey < key.txt', then 'pulumi up'"
}

unpack() {
  rm -rf "$RECOVERED"
  mkdir -p "$RECOVERED"
  chmod 0700 /var/lib/etcd "$RECOVERED"
  age --decrypt --identity "$IDENTITY" "$SNAPSHOT" | tar --extract --directory="$RECOVERED" --no-same-owner
}

field() { awk -v key="$1:" '$1 == key {gsub(/["\x27]/, "", $2); print $2; exit}' "$2"; } # KEY FILE

# What every node, Service and pod of that cluster was made with can't be another now.
check_same_cluster() {
  local key setting wanted found
  for key in clusterName podSubnet serviceSubnet; do
    wanted=$(field "$key" "$CONFIG/init.yaml")
    found=$(field "$key" "$RECOVERED/cluster.yaml")
    [[ $found == "$wanted" ]] && continue
    case $key in podSubnet) setting=podCidr ;; serviceSubnet) setting=serviceCidr ;; *) setting=$key ;; esac
    fail "the snapshot is of a cluster whose $setting is '$found'" "'$wanted', as in the stack file" \
      "set $setting to what the cluster had, or take another snapshot"
  done
}

# As in an upgrade: never back, one minor at a time.
check_version() {
  local from to
  from=$(field kubernetesVersion "$RECOVERED/cluster.yaml")
  from=${from#v} to=$(kubeadm_version)
  if [[ $(printf '%s\n' "$from" "$to" | sort --version-sort | head -n 1) != "$from" ]] ||
    ((10#$(cut -d. -f2 <<<"$to") - 10#$(cut -d. -f2 <<<"$from") > 1)); then
    fail "the snapshot is of Kubernetes $from, installed here is $to" "that version, or up to one minor more" \
      "set kubernetesVersion to $from; upgrade when the cluster is back"
  fi
}

# etcd's own tool, from the image that kubeadm is about to run: a member of a new etcd cluster of its own.
restore_etcd() {
  local image address options tool=etcdutl
  address=$(cat "$CONFIG/internal-address")
  image=$(kubeadm config images list --kubernetes-version "v$(kubeadm_version)" | grep '/etcd:')
  options=(--bump-revision="$REVISIONS" --mark-compacted)
  # In images of etcd 3.5 (Kubernetes up to 1.33) the old tool does it, without these.
  if [[ ${image##*:} == 3.5.* ]]; then tool=etcdctl options=(); fi
  crictl inspecti "$image" >/dev/null 2>&1 || crictl pull "$image"
  ctr --namespace=k8s.io run --rm --net-host \
    --mount="type=bind,src=/var/lib/etcd,dst=/var/lib/etcd,options=rbind:rw" "$image" "own-kubernetes-recovery-$$" \
    "/usr/local/bin/$tool" snapshot restore "$RECOVERED/etcd.db" --data-dir="$RECOVERED/data" --name="$NODE" \
    --initial-cluster="$NODE=https://$address:2380" --initial-advertise-peer-urls="https://$address:2380" "${options[@]}"
}

put_in_place() {
  rm -rf "$PKI"
  mkdir -p /etc/kubernetes
  chmod 0755 "$RECOVERED/pki" "$RECOVERED/pki/etcd"
  mv "$RECOVERED/pki" "$PKI"
  mv "$RECOVERED/data/member" /var/lib/etcd/member
  rm -rf "$RECOVERED"
}

# Before kubeadm init, which goes on with the keys and the data that it finds.
bring_back() {
  check_given
  step "age" install_exactly age || fail "age is not installed" "age, from the distribution" \
    "look at the lines above: they name the package source that did not answer, or has no age"
  (umask 077 && step "snapshot opened" unpack) ||
    fail "the snapshot can't be opened" "a snapshot that was encrypted for recoveryKey, and room in /var/lib/etcd" \
      "look at the lines above; set recoveryKey to the key whose public half backup.publicKey was"
  check_same_cluster
  check_version
  step "etcd's data" restore_etcd || fail "etcd does not take the snapshot" "a whole snapshot of etcd" \
    "look at the lines above; take another snapshot, or one of another control plane"
  put_in_place
}

# After it: the control planes that the snapshot knows are gone, this host's own former self among them. A Node of
# theirs would keep an old provider ID, and an old version which holds joins up. The kubelet registers anew as it
# starts; what kubeadm has noted at the old Node it notes once more.
renew_nodes() {
  systemctl stop kubelet
  kube delete node --selector=node-role.kubernetes.io/control-plane --timeout=60s
  systemctl start kubelet
  wait_for 120 "Node $NODE" kube get node "$NODE"
  kubeadm init phase upload-config kubelet --config="$RUNTIME/init.yaml"
  kubeadm init phase mark-control-plane --config="$RUNTIME/init.yaml"
}
