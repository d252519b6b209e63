#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud: creates the slice, installs this project on its
# hosts, trains, follows the log, and deletes the slice. After a preemption it creates the
# slice again and continues.
#
#   scripts/tpu.sh [--dry-run] [--keep] NAME ZONE TYPE VERSION REPOSITORY TRAIN_FLAG...
#
#   --dry-run  prints the commands of an undisturbed training and runs none of them
#   --keep     does not delete the slice at the end
#   NAME       name of the slice, such as srgan
#   ZONE       such as us-west4-a
#   TYPE       accelerator type, such as v5litepod-256
#   VERSION    runtime version, such as v2-alpha-tpuv5-lite
#   REPOSITORY a git repository of this project that the hosts can read
#   TRAIN_FLAG flags of train.py; --workdir must be in a bucket, or on a file system that
#              outlives the slice
#
# CREATE_FLAGS holds further flags for the creation, "--spot" by default. Every command is
# printed before it runs. Exit status: that of the training, or 1 if a command fails.
set -uo pipefail

dry_run=false keep=false
while [[ ${1-} == --dry-run || ${1-} == --keep ]]; do
  [[ $1 == --keep ]] && keep=true || dry_run=true
  shift
done
if (($# < 6)); then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
name=$1 zone=$2 type=$3 version=$4 repository=$5
shift 5
if [[ " $* " != *" --workdir="* ]]; then
  echo "error: give --workdir=gs://BUCKET/RUN, or the run is lost with the slice" >&2
  exit 2
fi
billed="the slice $name may still exist and be billed; delete it with: \
gcloud compute tpus queued-resources delete $name --zone=$zone --force --quiet"

run() { # prints a command and runs it
  printf '+ %s\n' "${*@Q}" >&2
  $dry_run || "$@"
}

fail() {
  echo "error: $1 failed; $billed" >&2
  exit 1
}

tpus() { run gcloud compute tpus "$@" --zone="$zone"; }

on() { # runs a command on one worker or on all of them
  tpus tpu-vm ssh "$name" --worker="$1" --command="$2"
}

state() { tpus queued-resources describe "$name" --format='value(state.state)'; }

delete() { tpus queued-resources delete "$name" --force --quiet; }

create() {
  # shellcheck disable=SC2086 # CREATE_FLAGS may hold several flags
  tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
    --runtime-version="$version" ${CREATE_FLAGS---spot} || fail "the creation"
  while :; do
    now=$(state) || fail "the request for the slice's state"
    $dry_run || [[ $now == ACTIVE ]] && break
    [[ $now == FAILED || $now == SUSPENDED ]] && fail "the creation (state $now)"
    sleep "${POLL_SECONDS:-30}"
  done
  on all "rm -rf srgan_jax && git clone --quiet ${repository@Q} srgan_jax && cd srgan_jax && \
pip install --quiet uv && python3 -m uv venv --python 3.12 venv && \
python3 -m uv pip install --quiet --python venv/bin/python -e '.[tpu,gcs]'" ||
    fail "the installation"
}

start() { # starts the training on all workers
  on all "cd srgan_jax && rm -f status && (nohup sh -c \"venv/bin/python train.py \
--distributed ${flags[*]@Q} > train.log 2>&1; echo \\\$? > status\" > /dev/null 2>&1 &)" ||
    fail "the start of the training"
}

follow() { # follows the first worker's log; returns the status of the training
  on 0 "tail -n +1 -F srgan_jax/train.log 2> /dev/null & until [ -f srgan_jax/status ]; \
do sleep 1; done; sleep 1; kill \$!; exit \$(cat srgan_jax/status)"
}

flags=("$@")
create
start
while :; do
  follow
  status=$?
  if ((status == 75)); then # told to stop, and saved
    start
  elif ((status == 255)); then # ssh's own: the connection broke, or the slice is gone
    now=$(state) || fail "the request for the slice's state"
    [[ $now == ACTIVE ]] && continue
    delete || fail "the deletion of the preempted slice"
    create
    start
  else
    break
  fi
done
if $keep; then
  echo "$billed" >&2
else
  delete || fail "the deletion"
fi
exit "$status"
