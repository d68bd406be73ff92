#!/usr/bin/env bash
# What a container of launch/Dockerfile runs: `facerep` with the variables of launch/env/$FACEREP_ENV.env, if that is
# set. `exec` puts it in this shell's place, so that signals reach it.
set -euo pipefail

if [[ -n ${FACEREP_ENV-} ]]; then
  # shellcheck disable=SC1090
  source "$(dirname -- "${BASH_SOURCE[0]}")/env/$FACEREP_ENV.env"
fi
exec facerep "$@"
