"""Process setup: machines that belong to a pod are recognised."""

import jax
import pytest

from srgan_jax.training import runtime


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in runtime.ANNOUNCEMENTS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("TPU_WORKER_HOSTNAMES", "host-0,host-1,host-2,host-3", 4),
        ("MEGASCALE_NUM_SLICES", "2", 2),
        ("SLURM_STEP_NUM_TASKS", "8", 8),
        ("OMPI_COMM_WORLD_SIZE", "2", 2),
        ("PROCESS_COUNT", "2", 2),
    ],
)
def test_a_process_of_many_is_refused_with_both_ways_on(
    name, value, count, monkeypatch
):
    monkeypatch.setenv(name, value)
    expected = rf"{name}={value} announces {count} processes; add --distributed .* or "
    with pytest.raises(runtime.DistributedError, match=expected + "--nodistributed"):
        runtime.check_alone(requested=False)
    runtime.check_alone(requested=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TPU_WORKER_HOSTNAMES", "localhost"), ("PROCESS_COUNT", "1"), ("HOME", "/")],
)
def test_a_single_process_is_not_refused(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    runtime.check_alone(requested=False)


@pytest.mark.parametrize("requested", [False, True])
def test_a_slice_is_recognised_by_its_driver(monkeypatch, requested):
    """No host of a slice can train alone, even if it is told to."""
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(
        runtime.DistributedError, match=r"driver announces 4 .* add --distributed to j"
    ):
        runtime.check_alone(requested=requested)
