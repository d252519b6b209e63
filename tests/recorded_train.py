"""train.py as tests run it in a process of its own; its arguments are train.py's.

Writes a digest of each example it trains on into the run's directory, and gives up a
lost process sooner. Variables of the environment name its misfortunes:

    FAIL_AT=STEP           no batch of that step can be read: the disk is gone
    KILL=SIGNAL@STEP       the signal comes when the batch of that step is read (two of
                           them as SIGNAL+SIGNAL); the run goes on slowly after it
    KILL_SAVE=STEP         SIGKILL comes when that step's checkpoint is all but complete
    ROOM=BYTES@STEP        from that batch on no file grows beyond so many bytes
    TERMINATE_IN=FUNCTION  SIGTERM comes as srgan_jax.training.FUNCTION is called

Batches are read some steps ahead of the one that is computed.
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

from srgan_jax.training import loop, runtime

ROOT = Path(__file__).parents[1]
PARENT = os.getppid()

runtime.HEARTBEAT_TIMEOUT = 10
training_batches = loop.training_batches


def recorded(run, first_step):
    path = run.workdir / f"examples-{os.getpid()}.jsonl"
    number, killed_at = misfortune("KILL")
    room, full_at = misfortune("ROOM")
    for step, batch in enumerate(training_batches(run, first_step), start=first_step):
        if os.getppid() != PARENT:
            os._exit(1)  # the test was killed: some of its runs would never end
        if str(step) == os.environ.get("FAIL_AT"):
            raise OSError("the disk of this host is gone")
        if step == killed_at:
            for name in number.split("+"):
                os.kill(os.getpid(), signal.Signals[name])
        if killed_at is not None and step >= killed_at:
            time.sleep(0.5)  # other processes are told within a second
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


def misfortune(name):
    """What, and at which step."""
    what, _, step = os.environ.get(name, "").partition("@")
    return what, int(step) if step else None


def fill_disk(room):
    """To limit files needs no root, as a small file system does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))


def kill_save(step):
    """Orbax writes under a name that it changes at the end."""

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
