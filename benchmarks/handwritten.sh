#!/usr/bin/env bash
# handwritten.sh INPUTS: what the program is measured against: the same cluster by kubeadm, kubectl and helm,
# as somebody who knows them would write it for one site in an afternoon. Everything that can go side by side
# does, nothing is waited for that the next command does not need.
#
# INPUTS is a private folder:
#   settings           shell variables: versions, CONTROL_PLANE, WORKERS (host names of ssh.config), ENDPOINT ...
#   ssh.config         one connection to each host, shared by all commands
#   hosts/NAME/        files for that host, from its root (containerd, apt source, kernel)
#   kubeadm/NAME.yaml  kubeadm's configuration, with @TOKEN@ to fill in
#   manifests/         Flannel, address pool, hello world
set -euo pipefail
umask 077

cd "${1:?folder with the inputs}"
# shellcheck source=/dev/null
source ./settings
: "${KUBERNETES:?}" "${CONTAINERD:?}" "${CONTROL_PLANE:?}" "${WORKERS:?}" "${METALLB_CHART:?}" \
  "${NGINX_CHART:?}" "${HELLO_HOST:?}" "${LIMIT:?}"
export KUBECONFIG=$PWD/kubeconfig
BEGAN=${EPOCHREALTIME/./}

say() {
  local spent=$(((${EPOCHREALTIME/./} - BEGAN) / 100000))
  printf '[%4d.%d s] %s\n' $((spent / 10)) $((spent % 10)) "$*"
}

on() { # HOST COMMAND...
  local host=$1
  shift
  ssh -F ssh.config "$host" "$@"
}

until_done() { # COMMAND...: again until it succeeds, within the script's limit
  until "$@" >>retries.log 2>&1; do
    ((SECONDS < LIMIT)) || { echo "not within $LIMIT s: $*" >&2; tail retries.log >&2; return 1; }
    sleep 0.2
  done
}

prepare() { # HOST
  tar --create --directory="hosts/$1" . | on "$1" tar --extract --no-same-owner --no-overwrite-dir --directory=/
  on "$1" bash -s "$KUBERNETES" "$CONTAINERD" >"$1.log" 2>&1 <<'REMOTE' || { tail "$1.log" >&2; return 1; }
    set -euo pipefail
    export DEBIAN_FRONTEND=noninteractive
    swapoff --all
    sed --in-place '/\sswap\s/ s/^/#/' /etc/fstab
    xargs --max-args=1 modprobe </etc/modules-load.d/kubernetes.conf
    sysctl --load=/etc/sysctl.d/90-kubernetes.conf
    apt-get update
    # containerd's configuration is there already: it starts with it.
    apt-get install --yes --no-install-recommends -o Dpkg::Options::=--force-confold \
      "containerd.io=$2-*" "kubelet=$1-*" "kubeadm=$1-*" "kubectl=$1-*" cri-tools conntrack ethtool iptables socat
    apt-mark hold containerd.io kubelet kubeadm kubectl
    systemctl enable containerd kubelet # their packages have started them
REMOTE
  say "$1: prepared"
}

fetch_images() { # HOST: beside whatever comes next; what fails here is pulled when it is needed
  on "$1" "kubeadm config images list --kubernetes-version v$KUBERNETES | grep kube-proxy |
    cat - /root/images | xargs --max-args=1 --max-procs=4 crictl pull" >"$1.images.log" 2>&1 || true
}

prepare_worker() { # HOST
  prepare "$1"
  fetch_images "$1" &
}

init() { # kubeadm's configuration goes by stdin: it holds the token
  local config
  config=$(<"kubeadm/$CONTROL_PLANE.yaml")
  on "$CONTROL_PLANE" 'umask 077; cat >/root/kubeadm.yaml; kubeadm init --config /root/kubeadm.yaml --skip-token-print' \
    <<<"${config//@TOKEN@/$token}" >init.log 2>&1 || { tail init.log >&2; return 1; }
  on "$CONTROL_PLANE" cat /etc/kubernetes/admin.conf >kubeconfig
  # Public: the API's address and CA. With it a join need not wait until the cluster has signed the token.
  kubectl --namespace=kube-public get configmap cluster-info --output='jsonpath={.data.kubeconfig}' >discovery.yaml
  say "$CONTROL_PLANE: kubeadm init done"
}

join() { # HOST
  local config
  config=$(<"kubeadm/$1.yaml")
  on "$1" 'cat >/root/discovery.yaml' <discovery.yaml
  on "$1" 'umask 077; cat >/root/kubeadm.yaml; kubeadm join --config /root/kubeadm.yaml; rm /root/kubeadm.yaml' \
    <<<"${config//@TOKEN@/$token}" >>"$1.log" 2>&1 || { tail "$1.log" >&2; return 1; }
  say "$1: joined"
}

release() { # NAME NAMESPACE CHART VALUES...
  local name=$1 namespace=$2 chart=$3
  shift 3
  helm upgrade --install "$name" "$chart" --namespace "$namespace" --create-namespace "$@" >"$name.log" 2>&1 ||
    { tail "$name.log" >&2; return 1; }
  say "cluster: chart $name applied"
}

page() {
  local address
  address=$(kubectl --namespace=nginx-ingress get service --output \
    'jsonpath={.items[?(@.spec.type=="LoadBalancer")].status.loadBalancer.ingress[0].ip}')
  [[ -n $address ]] && curl --fail --silent --max-time 2 --header "Host: $HELLO_HOST" "http://$address/"
}

jobs_of() { # wait for the named background jobs; the first failure is the script's
  local job
  for job in "$@"; do wait "$job"; done
}

clean_up() {
  local host job
  for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done
  for host in $CONTROL_PLANE $WORKERS; do on "$host" -O exit 2>/dev/null || true; done
}

main() {
  local host workers=() joins=() rest=() control
  token=$(openssl rand -hex 3).$(openssl rand -hex 8)

  prepare "$CONTROL_PLANE" & control=$!
  for host in $WORKERS; do
    prepare_worker "$host" & workers+=($!)
  done
  wait "$control"
  fetch_images "$CONTROL_PLANE" &
  init

  kubectl apply --filename=manifests/kube-flannel.yaml >>retries.log
  say "cluster: Flannel applied"
  jobs_of "${workers[@]}"
  for host in $WORKERS; do
    join "$host" & joins+=($!)
  done
  jobs_of "${joins[@]}"
  # The pods' network first: a pod that comes before it fails, and waits 10 s for its next try.
  kubectl --namespace=kube-flannel rollout status daemonset/kube-flannel-ds >>retries.log
  say "cluster: Flannel runs"
  release metallb metallb-system "$METALLB_CHART" \
    --set frrk8s.enabled=false,speaker.frr.enabled=false & rest+=($!)
  release nginx-ingress nginx-ingress "$NGINX_CHART" \
    --set controller.telemetryReporting.enable=false & rest+=($!)
  kubectl apply --filename=manifests/hello.yaml >>retries.log
  jobs_of "${rest[@]}"

  until_done kubectl apply --filename=manifests/pool.yaml # MetalLB's webhook has to run
  say "cluster: address pool"
  until_done page
  say "cluster: the page answers"
}

trap clean_up EXIT
main
