"""Traces of steps: which steps are refused, and when a trace begins and ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from srgan_jax.training import profile
from srgan_jax.training.profile import Profile, ProfileError

# This runs in a separate process: the profiler crashes if a test has loaded libtpu.
RUN = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
from srgan_jax.training.profile import Profile
directory, first, stop, end = Path(sys.argv[1]), *map(int, sys.argv[2:])
traced = []
with Profile(directory, range(first, stop), range(1, end)) as profile:
    for step in range(1, end):
        profile.before(step, jnp.zeros(1))
        traced.append(any(directory.rglob("*.pb")))
traced.append(any(directory.rglob("*.pb")))
print(json.dumps(traced))
"""


def run(directory: Path, first: int, stop: int, end: int) -> list[bool]:
    """Tells if a trace was complete at the start of each step and after the run."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(directory), *map(str, (first, stop, end))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("steps", [range(1, 4), range(7, 9)])
def test_steps_that_the_run_will_not_train_are_refused(tmp_path, steps):
    with pytest.raises(ProfileError, match=r"none of the steps .* 4 to 6"):
        Profile(tmp_path, steps, range(4, 7))


def test_a_trace_ends_with_its_last_step(tmp_path):
    # The trace begins at step 2.
    assert run(tmp_path, 2, 3, 5) == [False, False, True, True, True]


def test_a_trace_ends_with_the_run(tmp_path):
    assert run(tmp_path, 2, 10, 4) == [False, False, False, True]


@pytest.mark.parametrize("reason", [None, "a loss is not finite"])
def test_a_failed_upload_does_not_hide_why_the_run_failed(
    tmp_path, monkeypatch, reason
):
    def fail(_):
        raise OSError("no bucket")

    monkeypatch.setattr(profile.Staging, "upload", fail)
    monkeypatch.setattr(profile.jax.profiler, "start_trace", lambda _: None)
    monkeypatch.setattr(profile.jax.profiler, "stop_trace", lambda: None)

    def train():
        with Profile(tmp_path, range(1, 9), range(1, 9)) as traced:
            traced.before(1, 0)
            if reason is not None:
                raise ValueError(reason)

    with pytest.raises(ValueError if reason else OSError, match=reason):
        train()


def test_nothing_is_traced_by_default(tmp_path):
    run(tmp_path, 0, 0, 4)
    assert not any(tmp_path.iterdir())


def test_libtpu_without_a_tpu_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(profile.xla_client, "pjrt_plugin_loaded", lambda _: True)
    with pytest.raises(ProfileError, match="set JAX_PLATFORMS=cpu"):
        Profile(tmp_path, range(1, 2), range(1, 3))
    Profile(tmp_path, range(0), range(1, 3))
