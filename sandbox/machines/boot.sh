#!/bin/bash
# boot.sh NAME DIRECTORY BASE MEMORY_MIB: boots one machine and stays until it ends.
# Runs in the machine's network namespace and cgroups, and in a mount namespace of its own: all mounts
# made here, and what systemd-nspawn writes below /run, are gone when the machine is.
# Exit status: 133 when the machine asks for a reboot, 0 when it was switched off.
set -euo pipefail

name=$1 directory=$2 base=$3 memory_mib=$4

mount -t tmpfs -o mode=755 sandbox /run
touch /run/network
mount --bind /proc/self/ns/net /run/network

mount -t overlay -o "lowerdir=$base,upperdir=$directory/upper,workdir=$directory/work" sandbox "$directory/root"

# /var/lib is a plain directory: containerd's own overlays and etcd's log cannot lie on an overlay.
# Clock and modules are the host's: no capability for them. All else a container runtime may need.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --keep-unit --register=no --machine="$name" --directory="$directory/root" \
  --bind="$directory/var-lib:/var/lib" --network-namespace-path=/run/network \
  --capability=all --drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE --system-call-filter=@known \
  --resolv-conf=off --timezone=off --link-journal=no --console=read-only \
  --setenv=SANDBOX_MEMORY_MIB="$memory_mib" /usr/local/sbin/sandbox-init
