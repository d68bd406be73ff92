#!/usr/bin/env bash
# Pre-train on this machine, and start the run again whenever a signal stopped it and it saved its state (status 75).
#
#   launch/local.sh --config configs/pretrain/farl.py:variant=B/16 --workdir runs/farl
#
# These come first, all other arguments go to `facerep pretrain`:
#
#   --env=NAME   with the variables of launch/env/NAME.env
#   --split=N    as N processes that meet over loopback and compute on CPUs: what a pod does, tried without one
#   --dry-run    print what would be run, and run nothing
#
# If this script receives SIGTERM, SIGINT, SIGHUP, SIGUSR1 or SIGUSR2, it sends SIGTERM to the run, which saves its
# state. Then the script ends. Its status is that of the last run: 0 done, 75 saved, 2 bad input, anything else: it
# failed.
set -uo pipefail

SAVED=75
HERE=$(dirname -- "${BASH_SOURCE[0]}")
FACEREP="$HERE/../.venv/bin/facerep"
[[ -x $FACEREP ]] || FACEREP=facerep # the installed one

show=false
split=1
while [[ ${1-} =~ ^--(env=|split=|dry-run$) ]]; do
  case $1 in
    --env=*)
      # shellcheck disable=SC1090
      source "$HERE/env/${1#*=}.env" || exit 2
      ;;
    --split=*) split=${1#*=} ;;
    --dry-run) show=true ;;
  esac
  shift
done
[[ $split =~ ^[1-9][0-9]*$ ]] || { echo "local.sh: --split is a number above 0, not '$split'" >&2; exit 2; }

children=()
stop=false
signalled=false

# shellcheck disable=SC2329  # `trap` calls it
pass_on() {
  stop=true
  signalled=true
  [[ ${#children[@]} -eq 0 ]] || kill -TERM "${children[@]}" 2>/dev/null
}
trap pass_on TERM INT HUP USR1 USR2

run() { # the command, or what it would be
  if [[ $show == true ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@" &
    children+=($!)
  fi
}

status=$SAVED
while [[ $status -eq $SAVED && $stop == false ]]; do
  children=()
  if [[ $split -eq 1 ]]; then
    run "$FACEREP" pretrain "$@"
  else
    address="127.0.0.1:$((61440 + RANDOM % 4096))"
    for ((process = 0; process < split; process++)); do
      run env JAX_PLATFORMS=cpu "$FACEREP" pretrain "$@" \
        --coordinator="$address" --processes="$split" --process="$process"
    done
  fi
  [[ $stop == false ]] || kill -TERM "${children[@]}" 2>/dev/null # the signal came before `children` were known

  status=0
  for child in "${children[@]}"; do
    signalled=true
    while [[ $signalled == true ]]; do # a signal interrupts `wait` before the run ends, so wait again
      signalled=false
      wait "$child"
      code=$?
    done
    # One that failed decides, and one that saved goes before one that is done.
    [[ $status -eq 0 || ($status -eq $SAVED && $code -ne 0) ]] && status=$code
  done
done
exit "$status"
