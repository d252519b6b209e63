"""train.py as tests run it in a process of its own; its arguments are train.py's.

Writes a digest of each example it trains on into the run's directory, and gives up a
lost process sooner. With FAIL_AT=STEP@PROCESS in the environment reading that batch
fails, as on a host whose disk is gone.
"""

import hashlib
import json
import os
import runpy
import sys
from pathlib import Path

import jax

from srgan_jax.training import loop, parallel

ROOT = Path(__file__).parents[1]

parallel.HEARTBEAT_TIMEOUT = 10
training_batches = loop.training_batches


def recorded(run, first_step):
    path = run.workdir / f"examples-{os.getpid()}.jsonl"
    for step, batch in enumerate(training_batches(run, first_step), start=first_step):
        if f"{step}@{jax.process_index()}" == os.environ.get("FAIL_AT"):
            raise OSError("the disk of this host is gone")
        digests = [
            hashlib.sha256(lr.tobytes() + hr.tobytes()).hexdigest()
            for lr, hr in zip(batch["lr"], batch["hr"], strict=True)
        ]
        first = jax.process_index() * len(digests)
        line = {"step": step, "first": first, "digests": digests}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        yield batch


loop.training_batches = recorded
sys.path.insert(0, str(ROOT))
runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
