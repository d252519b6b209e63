"""Traces of chosen steps: which are refused, and when a trace begins and ends."""

import jax.numpy as jnp
import pytest

from srgan_jax.training.profile import Profile, ProfileError


@pytest.mark.parametrize("steps", [range(1, 4), range(7, 9)])
def test_steps_that_the_run_will_not_do_are_refused(tmp_path, steps):
    with pytest.raises(ProfileError, match=r"none of the steps .* 4 to 6"):
        Profile(tmp_path, steps, range(4, 7))


def run(profile, steps):
    """Whether anything was traced when each step began."""
    traced = []
    with profile:
        for step in steps:
            profile.before(step, jnp.zeros(1))
            traced.append(any(profile._directory.rglob("*.pb")))
    return traced


def test_a_trace_ends_with_its_last_step(tmp_path):
    assert run(Profile(tmp_path, range(2, 3), range(1, 5)), range(1, 5)) == [
        False,  # it begins at step 2
        False,
        True,
        True,
    ]


def test_a_trace_ends_with_the_run(tmp_path):
    profile = Profile(tmp_path, range(2, 10), range(1, 4))
    assert not any(run(profile, range(1, 4)))
    assert any(tmp_path.rglob("*.pb"))


def test_nothing_is_traced_unasked(tmp_path):
    run(Profile(tmp_path, range(0), range(1, 4)), range(1, 4))
    assert not any(tmp_path.iterdir())
