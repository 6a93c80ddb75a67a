# shellcheck shell=bash
# Packages from apt, each at the version that is wanted. Sourced after lib.sh, never run.

apt_get() { # cloud-init and unattended upgrades may hold apt's locks for a while
  apt-get --quiet=2 -o DPkg::Lock::Timeout=300 -o APT::Get::Lock::Timeout=300 \
    -o Acquire::Retries=4 -o Acquire::http::Timeout=30 -o Acquire::Languages=none "$@"
}

installed() { # PACKAGE or PACKAGE=VERSION-PATTERN
  local found
  found=$(dpkg-query --show --showformat '${db:Status-Status} ${Version}' "${1%%=*}" 2>/dev/null) || return 1
  # shellcheck disable=SC2053 # the right side is a pattern
  [[ $1 != *=* && $found == installed\ * || $found == installed\ ${1#*=} ]]
}

missing() { # PACKAGE...: prints those that are not installed at the wanted version, and succeeds if there is one
  local package any=false
  for package in "$@"; do
    installed "$package" && continue
    printf '%s\n' "$package"
    any=true
  done
  [[ $any == true ]]
}

# install_exactly PACKAGE...: in one transaction; what is there already costs nothing.
install_exactly() {
  missing "$@" >/dev/null || return 0
  retry 120 apt_get update || fail "apt-get update failed" "package lists of every source" \
    "look at the lines above: they name the host and URL that did not answer"
  # The kubelet and containerd are started by us, once they are configured.
  retry 120 apt_get install --no-install-recommends --no-remove --allow-change-held-packages \
    -o Dpkg::Options::=--force-confold "$@"
}

fetch_ahead() { # PACKAGE...: into apt's cache
  retry 120 apt_get update && retry 120 apt_get install --no-install-recommends --download-only \
    --allow-change-held-packages "$@"
}

fail_for_packages() { # PACKAGE...
  fail "packages not installed: $*" "every one available and none in conflict" \
    "look at the lines above; a distribution's own containerd or docker.io has to be removed first"
}
