#!/usr/bin/env bash
# Pre-train on TPU slices of a GKE cluster: a JobSet with one Job for each slice and one pod for each host.
#
#   launch/gke.sh farl --image=IMAGE --accelerator=tpu-v5-lite-podslice --topology=16x16 --slices=2 --claim=runs \
#     --env=v5e -- --config configs/pretrain/farl.py:variant=B/16 --workdir /runs/farl
#
#   --image=IMAGE        built from launch/Dockerfile with CHIP=tpu
#   --accelerator=NAME   tpu-v4-podslice, tpu-v5-lite-podslice, tpu-v5p-slice or tpu-v6e-slice
#   --topology=AxB[xC]   of a slice
#   --slices=N           a slice fills a node pool, and no other job shares it; 1 without it
#   --chips=N            of a host; 4 without it
#   --claim=NAME         a volume claim that all pods can write (ReadWriteMany), mounted at /runs
#   --env=NAME           with the variables of launch/env/NAME.env
#   --restarts=N         after pods that were moved or failed; 100 without it
#   --grace=SECONDS      for a save, before a pod is killed; 600 without it, of which a spot VM gives 25
#   --spot               on spot VMs
#   --queue=NAME         of Kueue
#
# `launch/gke.sh --dry-run ...` prints the manifest, and applies nothing. The cluster needs JobSet 0.6 or newer. Pods
# that saved (status 75) or failed are started again, all together; bad input (status 2) ends the JobSet.
set -euo pipefail

fail() {
  echo "gke.sh: $1" >&2
  exit 2
}

show=false
[[ ${1-} != --dry-run ]] || { show=true && shift; }
[[ $# -ge 1 && $1 =~ ^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$ ]] ||
  fail "launch/gke.sh NAME [options] -- flags of facerep pretrain; NAME has small letters, digits and dashes"
name=$1
shift
image='' accelerator='' topology='' slices=1 chips=4 claim='' environment='' restarts=100 grace=600 spot=false queue=''
while [[ $# -gt 0 && $1 != -- ]]; do
  case $1 in
    --image=*) image=${1#*=} ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --topology=*) topology=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --chips=*) chips=${1#*=} ;;
    --claim=*) claim=${1#*=} ;;
    --env=*) environment=${1#*=} ;;
    --restarts=*) restarts=${1#*=} ;;
    --grace=*) grace=${1#*=} ;;
    --spot) spot=true ;;
    --queue=*) queue=${1#*=} ;;
    *) fail "no option '$1'" ;;
  esac
  shift
done
[[ $# -gt 1 ]] || fail "the flags of facerep pretrain are missing, after --"
shift
for need in image accelerator topology claim; do
  [[ -n ${!need} ]] || fail "--$need is missing"
done
for number in slices chips restarts grace; do
  [[ ${!number} =~ ^[0-9]+$ ]] || fail "--$number is a number, not '${!number}'"
done
[[ $topology =~ ^[0-9]+(x[0-9]+){1,2}$ ]] || fail "--topology is such as 16x16 or 4x4x4, not '$topology'"
((slices > 0 && chips > 0)) || fail "--slices and --chips are above 0"
[[ -z $environment || -f $(dirname -- "${BASH_SOURCE[0]}")/env/$environment.env ]] ||
  fail "no file launch/env/$environment.env"
total=$((${topology//x/*}))
((total % chips == 0)) || fail "the $total chips of $topology are no multiple of the $chips of a host; give --chips=N"
hosts=$((total / chips))

arguments() { # a line for each, as JSON, which is YAML too
  local word
  for word in "$@"; do
    word=${word//\\/\\\\}
    printf '                    - "%s"\n' "${word//\"/\\\"}"
  done
}

manifest() {
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
YAML
  [[ -z $queue ]] || printf '  labels:\n    kueue.x-k8s.io/queue-name: %s\n' "$queue"
  cat <<YAML
spec:
  failurePolicy:
    maxRestarts: $restarts
    rules:
      - name: bad-input
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: slice
      replicas: $slices
      template:
        spec:
          parallelism: $hosts
          completions: $hosts
          completionMode: Indexed
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes: {containerName: facerep, operator: In, values: [2]}
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: $grace
              hostNetwork: true
              dnsPolicy: ClusterFirstWithHostNet
              nodeSelector:
                cloud.google.com/gke-tpu-accelerator: $accelerator
                cloud.google.com/gke-tpu-topology: $topology
YAML
  [[ $spot == false ]] || echo '                cloud.google.com/gke-spot: "true"'
  cat <<YAML
              containers:
                - name: facerep
                  image: $image
                  args:
YAML
  arguments pretrain "$@"
  cat <<YAML
                  env:
                    - {name: FACEREP_ENV, value: "$environment"}
                  ports:
                    - containerPort: 8471
                    - containerPort: 8080
                  resources:
                    limits: {google.com/tpu: $chips}
                  volumeMounts:
                    - {name: runs, mountPath: /runs}
                    - {name: shm, mountPath: /dev/shm}
              volumes:
                - name: runs
                  persistentVolumeClaim: {claimName: $claim}
                - name: shm
                  emptyDir: {medium: Memory}
YAML
}

if [[ $show == true ]]; then
  manifest "$@"
else
  manifest "$@" | kubectl apply -f -
fi
