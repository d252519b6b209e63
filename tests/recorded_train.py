"""Runs train.py with recorded examples and simulated faults; takes its arguments.

It writes a digest of each training example into the run's directory (or the directory
EXAMPLES), and gives up on a lost process sooner than train.py. Environment variables
set the faults:

    FAIL_AT=STEP           reading the batch of this step fails
    KILL=SIGNAL@STEP       sends a signal (or two, as SIGNAL+SIGNAL) when the batch of
                           this step is read, and slows down the steps after it
    KILL_SAVE=STEP         sends SIGKILL just before this step's checkpoint is complete
    ROOM=BYTES@STEP        limits the size of files from this step's batch on
    RETRY_SECONDS=NUMBER   repeats failed requests to a bucket for this time only
    SILENCE_SECONDS=NUMBER waits for this time only for an answer of a bucket
    TERMINATE_IN=FUNCTION  sends SIGTERM when srgan_jax.training.FUNCTION is called

Batches are read a few steps before they are used.
"""

import hashlib
import json
import os
import resource
import runpy
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import jax

from srgan_jax import bucket_client
from srgan_jax.training import loop, runtime

ROOT = Path(__file__).parents[1]
PARENT = os.getppid()

runtime.HEARTBEAT_TIMEOUT = 10
for name in ("RETRY_SECONDS", "SILENCE_SECONDS"):
    seconds = os.environ.get(name, getattr(bucket_client, name))
    setattr(bucket_client, name, float(seconds))
training_batches = loop.training_batches


def recorded(run, first_step):
    folder = Path(os.environ.get("EXAMPLES", str(run.workdir)))
    path = folder / f"examples-{os.getpid()}.jsonl"
    number, killed_at = fault("KILL")
    room, full_at = fault("ROOM")
    for step, batch in enumerate(training_batches(run, first_step), start=first_step):
        if os.getppid() != PARENT:
            os._exit(1)  # the test was killed, and some of its runs would never end
        if str(step) == os.environ.get("FAIL_AT"):
            raise OSError("the disk of this host is gone")
        if step == killed_at:
            for name in number.split("+"):
                os.kill(os.getpid(), signal.Signals[name])
        if killed_at is not None and step >= killed_at:
            time.sleep(0.5)  # other processes receive the signal within a second
        if step == full_at:
            fill_disk(int(room))
        digests = [
            hashlib.sha256(lr.tobytes() + hr.tobytes()).hexdigest()[:16]
            for lr, hr in zip(batch["lr"], batch["hr"], strict=True)
        ]
        first = jax.process_index() * len(digests)
        line = {"step": step, "first": first, "digests": digests}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        yield batch


def fault(name):
    """Returns the setting of a fault and its step."""
    what, _, step = os.environ.get(name, "").partition("@")
    return what, int(step) if step else None


def fill_disk(room):
    """Limits the size of files, which unlike a small file system needs no root."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


def kill_save(step):
    """Kills the process when Orbax renames the finished checkpoint into place."""

    def watch(event, arguments):
        if event == "os.rename" and f"/{step}.orbax" in str(arguments[0]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def terminate_in(name):
    module, _, function = name.rpartition(".")
    module = import_module(f"srgan_jax.training.{module}")
    original = getattr(module, function)

    def terminated(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **named)

    setattr(module, function, terminated)


loop.training_batches = recorded
if "TERMINATE_IN" in os.environ:
    terminate_in(os.environ["TERMINATE_IN"])
if "KILL_SAVE" in os.environ:
    kill_save(os.environ["KILL_SAVE"])
sys.path.insert(0, str(ROOT))
runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
