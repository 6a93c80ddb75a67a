# shellcheck shell=bash
# Packages from apt, each at the version that is wanted. Sourced after lib.sh, never run.

# Cloud-init and unattended upgrades may hold apt's locks for a while. apt waits for dpkg's lock; that of the
# package lists is up to get_packages.
apt_get() {
  apt-get --quiet=2 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=4 -o Acquire::http::Timeout=30 \
    -o Acquire::Languages=none "$@" || { say "apt-get $1: $(apt_reason)"; return 1; }
}

# Why apt failed, in its own words: which URL did not answer, who holds which lock.
apt_reason() {
  { grep -aE '^(E:|W: Failed to fetch)|Could not get lock' "$DETAIL" || true; } | without_secrets |
    tail --lines=3 | cut --bytes=1-300 | paste --serial --delimiters=';'
}

# get_packages WORDS...: apt-get with lists that are up to date. An update ends well where a source did not
# answer (apt goes on with what it has), so that a try is always both.
get_packages() {
  retry 300 apt_get update || return 1
  apt_get "$@" || {
    dpkg --force-confold --configure -a || return 1 # a power cut may have stopped dpkg half-way
    apt_get "$@"
  }
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
  # The kubelet and containerd are started by us, once they are configured.
  retry 120 get_packages install --no-install-recommends --no-remove --allow-change-held-packages \
    -o Dpkg::Options::=--force-confold "$@"
}

fetch_ahead() { # PACKAGE...: into apt's cache
  retry 120 get_packages install --no-install-recommends --download-only --allow-change-held-packages "$@"
}

fail_for_packages() { # PACKAGE...
  fail "packages not installed: $* ($(apt_reason))" \
    "every one available, none in conflict, and apt's locks free within 5 minutes" \
    "mend what apt says; a distribution's own containerd or docker.io has to be removed first"
}
