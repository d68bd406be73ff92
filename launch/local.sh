#!/usr/bin/env bash
# Pre-train on this machine, and start the run again whenever a signal stopped it and it saved its state (status 75).
#
#   launch/local.sh --config configs/pretrain/farl.py:variant=B/16 --workdir runs/farl
#
# All arguments go to `facerep pretrain`. If this script receives SIGTERM, SIGINT, SIGHUP, SIGUSR1 or SIGUSR2, it sends
# SIGTERM to the run, which saves its state. Then the script ends. Its status is that of the last run: 0 done, 75
# saved, 2 bad input, anything else: it failed.
set -uo pipefail

SAVED=75
FACEREP="$(dirname -- "${BASH_SOURCE[0]}")/../.venv/bin/facerep"
[[ -x $FACEREP ]] || FACEREP=facerep # the installed one

child=
stop=false
signalled=false

# shellcheck disable=SC2329  # `trap` calls it
pass_on() {
  stop=true
  signalled=true
  [[ -z $child ]] || kill -TERM "$child" 2>/dev/null
}
trap pass_on TERM INT HUP USR1 USR2

status=$SAVED
while [[ $status -eq $SAVED && $stop == false ]]; do
  child=
  "$FACEREP" pretrain "$@" &
  child=$!
  [[ $stop == false ]] || kill -TERM "$child" 2>/dev/null # the signal came before `child` was known

  signalled=true
  while [[ $signalled == true ]]; do # a signal interrupts `wait` before the run ends, so wait again
    signalled=false
    wait "$child"
    status=$?
  done
done
exit "$status"
