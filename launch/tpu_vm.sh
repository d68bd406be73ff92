#!/usr/bin/env bash
# Pre-train on a TPU slice of Google Cloud: make its VMs, install this checkout, run on all of them, delete them.
#
#   launch/tpu_vm.sh create farl --zone=us-west4-a --type=v5litepod-256 --spot --queued
#   launch/tpu_vm.sh setup  farl --zone=us-west4-a
#   launch/tpu_vm.sh run    farl --zone=us-west4-a --env=v5e -- --config CONFIG --workdir /shared/runs/farl
#   launch/tpu_vm.sh logs   farl --zone=us-west4-a
#   launch/tpu_vm.sh stop   farl --zone=us-west4-a     # the run saves; `run` goes on where it stopped
#   launch/tpu_vm.sh delete farl --zone=us-west4-a --queued
#
#   --zone=ZONE        of the VMs; without it that of `gcloud config get compute/zone`
#   --type=TYPE        of the slice, as `gcloud compute tpus accelerator-types list` names them
#   --version=VERSION  of the VMs' software; without it the one for the type
#   --spot             VMs that are cheaper and can be taken away at any time
#   --queued           wait in line for a slice (a queued resource): of `create`, `status` and `delete`
#   --env=NAME         with the variables of launch/env/NAME.env: of `run`
#
# `launch/tpu_vm.sh --dry-run ...` prints what would be run, and runs nothing.
#
# All VMs must see the workdir: mount a file share, such as Filestore, on them. The run goes on after the connection is
# lost; each VM starts it again after a save (`launch/local.sh`). A spot slice that was taken away is deleted, made, set
# up and run anew with the same commands, and resumes from the workdir.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

fail() {
  echo "tpu_vm.sh: $1" >&2
  exit 2
}

show=false
[[ ${1-} != --dry-run ]] || { show=true && shift; }
[[ $# -ge 2 && $2 != -* ]] || fail "launch/tpu_vm.sh create|setup|run|logs|stop|status|delete NAME [options]"
action=$1
name=$2
shift 2
zone=() type='' version='' spot=() queued=false environment='' flags=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --zone=*) zone=("$1") ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --spot) spot=(--spot) ;;
    --queued) queued=true ;;
    --env=*) environment=$1 ;;
    --)
      flags=("${@:2}")
      break
      ;;
    *) fail "no option '$1'" ;;
  esac
  shift
done

run() { # the command, or what it would be
  if [[ $show == true ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

vm() { run gcloud compute tpus tpu-vm "$@" "${zone[@]}"; }
queue() { run gcloud compute tpus queued-resources "$@" "${zone[@]}"; }
everywhere() { vm ssh "$name" --worker=all --command="$1"; }

software() { # of the VMs that a type of slice needs; recalled, not tried
  case $type in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

case $action in
  create)
    [[ -n $type ]] || fail "create needs --type, such as --type=v5litepod-16"
    version=${version:-$(software)}
    if [[ $queued == true ]]; then
      queue create "$name" --node-id="$name" --accelerator-type="$type" --runtime-version="$version" "${spot[@]}"
    else
      vm create "$name" --accelerator-type="$type" --version="$version" "${spot[@]}"
    fi
    ;;
  setup) # what is committed; the VMs have an older Python, so uv brings one
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    run git archive --format=tar.gz --output="$archive" HEAD
    vm scp "$archive" "$name:facerep_jax.tar.gz" --worker=all
    # shellcheck disable=SC2016  # the VMs expand it
    everywhere 'set -e; mkdir -p facerep_jax; tar -xzf facerep_jax.tar.gz -C facerep_jax; cd facerep_jax
python3 -m pip install --quiet --user uv; PATH="$HOME/.local/bin:$PATH"
uv venv --clear --python 3.11 .venv; uv pip install --quiet -r requirements/py311.lock -e ".[tpu]"'
    ;;
  run)
    [[ ${#flags[@]} -gt 0 ]] || fail "run needs the flags of facerep pretrain after --"
    quoted=$(printf ' %q' ${environment:+"$environment"} "${flags[@]}")
    everywhere "cd facerep_jax; nohup launch/local.sh$quoted >> run.log 2>&1 < /dev/null & echo \$! > ~/facerep_jax/run.pid"
    ;;
  logs) vm ssh "$name" --worker=0 --command='tail -n 50 -F facerep_jax/run.log' ;;
  stop) everywhere "kill -TERM \$(cat facerep_jax/run.pid)" ;;
  status) if [[ $queued == true ]]; then queue describe "$name"; else vm describe "$name"; fi ;;
  delete) if [[ $queued == true ]]; then queue delete "$name" --force --quiet; else vm delete "$name" --quiet; fi ;;
  *) fail "no command '$action'; known: create, setup, run, logs, stop, status, delete" ;;
esac
