#!/usr/bin/env bash
# Python's virtual environment and the few host packages that checks need, on Debian 12; quiet, and once.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(python3-venv shellcheck age openssh-client)

missing() {
  local package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      printf '%s\n' "$package"
  done
}

if [[ -n $(missing) ]]; then
  echo "installing $(missing | xargs)"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
  }
  rm -f "$log"
fi

echo "installing Python packages into .venv"
[[ -x .venv/bin/python ]] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
