#!/usr/bin/env bash
# Pre-train on the machine at hand, and start again whenever the run was stopped by a signal and saved (status 75).
#
#   launch/local.sh --config configs/pretrain/farl.py:variant=B/16 --workdir runs/farl
#
# All arguments go to `facerep pretrain`. SIGTERM, SIGINT or SIGHUP to this script is passed on as SIGTERM and is final:
# the run saves, and the script ends. Its status is that of the last run: 0 done, 75 saved, 2 bad input, 1 anything else.
set -uo pipefail

SAVED=75
FACEREP="$(dirname -- "${BASH_SOURCE[0]}")/../.venv/bin/facerep"
[[ -x $FACEREP ]] || FACEREP=facerep # as installed

child=
stop=false
signalled=false

# shellcheck disable=SC2329  # `trap` calls it
pass_on() {
  stop=true
  signalled=true
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null
}
trap pass_on TERM INT HUP

status=$SAVED
while [[ $status -eq $SAVED && $stop == false ]]; do
  child=
  "$FACEREP" pretrain "$@" &
  child=$!
  [[ $stop == false ]] || kill -TERM "$child" 2>/dev/null # the signal came before `child` was known

  signalled=true
  while [[ $signalled == true ]]; do # a signal ends `wait` before the run ends
    signalled=false
    wait "$child"
    status=$?
  done
done
exit "$status"
