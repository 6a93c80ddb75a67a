#!/bin/bash
# enter.sh PROCS... -- COMMAND...: runs the command inside the cgroups whose cgroup.procs files are named
set -euo pipefail

while [[ $1 != -- ]]; do
  echo $$ >"$1"
  shift
done
shift
exec "$@"
