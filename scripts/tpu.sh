#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud: creates the slice, installs this project on its
# hosts, trains, follows the log, and deletes the slice. After a preemption it creates the
# slice again and continues.
#
#   scripts/tpu.sh [--dry-run] [--keep] [--attach] NAME ZONE TYPE VERSION REPOSITORY \
#       TRAIN_FLAG...
#
#   --dry-run  prints the commands of an undisturbed training and runs none of them
#   --keep     does not delete the slice at the end
#   --attach   follows the training that an earlier call of this script has started; give
#              the same arguments
#   NAME       name of the slice, such as srgan
#   ZONE       such as us-west4-a
#   TYPE       accelerator type, such as v5litepod-256
#   VERSION    runtime version, such as v2-alpha-tpuv5-lite
#   REPOSITORY a git repository of this project that the hosts can read
#   TRAIN_FLAG flags of train.py; --workdir must be in a bucket, or on a file system that
#              outlives the slice
#
# CREATE_FLAGS holds further flags for the creation, "--spot" by default. TFDS_DATA_DIR and
# LIBTPU_INIT_ARGS are set on the hosts too, if they are set here. Every command is printed
# before it runs. Exit status: that of the training, or 1 if a command fails.
set -uo pipefail

dry_run=false keep=false attach=false
while [[ ${1-} == --* ]]; do
  case $1 in
    --dry-run) dry_run=true ;;
    --keep) keep=true ;;
    --attach) attach=true ;;
    *) set -- ;; # prints the usage below
  esac
  shift || break
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
follow_or=
command="venv/bin/python train.py --distributed ${*@Q}"
for variable in TFDS_DATA_DIR LIBTPU_INIT_ARGS; do
  [[ -v $variable ]] && command="$variable=${!variable@Q} $command"
done
# Each host starts again by itself if the run was told to stop and has saved.
loop="status=75; while [ \$status -eq 75 ]; do $command; status=\$?; done >> train.log 2>&1; \
echo \$status > status"

run() { # prints a command and runs it
  printf '+ %s\n' "${*@Q}" >&2
  $dry_run || "$@"
}

billed() {
  echo "the slice $name may still exist and be billed; ${follow_or}delete it with: gcloud \
compute tpus queued-resources delete $name --zone=$zone --force --quiet"
}

fail() {
  echo "error: $1 failed; $(billed)" >&2
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
  while :; do # a request may wait for a free slice for days
    now=$(state) || fail "the request for the slice's state"
    $dry_run || [[ $now == ACTIVE ]] && break
    [[ $now == FAILED || $now == SUSPENDED ]] && fail "the creation (state $now)"
    echo "state: $now" >&2
    sleep "${POLL_SECONDS:-30}"
  done
  on all "rm -rf srgan_jax && git clone --quiet ${repository@Q} srgan_jax && cd srgan_jax && \
pip install --quiet uv && python3 -m uv venv --quiet --seed --python 3.12 venv && \
python3 -m uv pip install --quiet --python venv/bin/python -e '.[tpu,gcs]'" ||
    fail "the installation"
}

start() { # starts the training on all workers, once an earlier one has ended
  on all "cd srgan_jax && for i in \$(seq 300); do \
kill -0 \$(cat pid 2> /dev/null) 2> /dev/null || break; sleep 1; done; rm -f status; \
(nohup sh -c ${loop@Q} > /dev/null 2>&1 & echo \$! > pid)" ||
    fail "the start of the training"
}

follow() { # follows the first worker's log; returns 100 + the status of the training
  on 0 "tail -n +1 -F srgan_jax/train.log 2> /dev/null & until [ -f srgan_jax/status ] || \
! kill -0 \$(cat srgan_jax/pid) 2> /dev/null; do sleep 1; done; sleep 1; kill \$!; \
[ -f srgan_jax/status ] || exit 99; exit \$((100 + \$(cat srgan_jax/status)))"
}

trap 'echo "error: interrupted; $(billed)" >&2; exit 130' INT TERM

if ! $attach; then
  create
  start
fi
follow_or="follow the training with --attach, or "
broken=0 # interruptions in a row that came within ten minutes
while :; do
  began=$SECONDS
  follow
  status=$?
  $dry_run && break
  ((status >= 100 && status < 255)) && break
  # The training has vanished (99), as by a reboot of the worker. Or gcloud has failed:
  # there is no connection, or no slice any more.
  now=$(state) || fail "the request for the slice's state"
  if [[ $now == ACTIVE ]]; then
    ((SECONDS - began < 600)) && ((broken += 1)) || broken=0
    ((broken < 10)) || fail "the connection to the first worker"
    if ((status == 99)); then start; else sleep "${POLL_SECONDS:-30}"; fi
  else
    delete || fail "the deletion of the preempted slice"
    create
    start
  fi
done
$dry_run || ((status -= 100))
if ((status)); then # the log of another worker may say why
  on all "tail -n 20 srgan_jax/train.log | sed \"s/^/\$(hostname): /\""
fi
if $keep; then
  billed >&2
else
  delete || fail "the deletion"
fi
exit "$status"
