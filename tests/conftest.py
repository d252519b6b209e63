"""JAX settings for all tests, such as four simulated CPU devices.

They must be set before JAX is used.
"""

import functools
import gc
import os

os.environ["JAX_PLATFORMS"] = "cpu"
# The programs are tiny, so compiling them takes longer than running them.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["EPATH_USE_TF"] = "false"  # read once, before any test uses a bucket

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
# Broadcasting between arrays of different rank hides mistakes in shapes.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """`processes.started` with a compilation cache that all test processes share."""
    from processes import started

    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent  # All workers share this folder.
    return functools.partial(started, cache=directory / "compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns a folder of images for the tiny configuration."""
    import tiny

    return tiny.photographs(tmp_path_factory.mktemp("data") / "photographs")


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Keeps compiled programs from run to run, since all runs compile the same."""
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = [getattr(jax.config, name) for name in names]
    jax.config.update(names[0], str(tmp_path_factory.mktemp("xla")))
    jax.config.update(names[1], 0.0)
    yield
    for name, value in zip(names, before, strict=True):
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def bucket_proxy(tmp_path_factory):
    """Returns a storage server on loopback, see bucket_server.py."""
    import bucket_server

    with bucket_server.started(tmp_path_factory.mktemp("buckets")) as proxy:
        yield proxy


@pytest.fixture
def bucket(bucket_proxy, monkeypatch, request):
    """Returns an empty folder in a bucket of the server on loopback."""
    import threading

    import bucket_server

    from srgan_jax import bucket_client, paths

    for name, value in bucket_server.variables(bucket_proxy.address).items():
        monkeypatch.setenv(name, value)
    clients = threading.local()
    monkeypatch.setattr(bucket_client, "_clients", clients)
    bucket_proxy.clear()
    yield paths.parse(f"gs://{bucket_server.BUCKET}/{request.node.name}")
    bucket_proxy.clear()
    if hasattr(clients, "client"):
        clients.client.close()
    # Those of other threads, and connections of failed requests, are left to the
    # garbage collector, which must not complain in a later test.
    gc.collect()


@pytest.fixture
def collect_garbage():
    """Collects garbage at the end of a test, so that it cannot disturb a later one.

    When Orbax fails, it leaves its other reads and writes unawaited. Python complains
    about them when they are collected.
    """
    yield
    gc.collect()
