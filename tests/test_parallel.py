"""Mapping of steps over four simulated devices."""

import ctypes
import os
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import optax
import pytest
import tiny
from jax.sharding import PartitionSpec as P

from srgan_jax.training import parallel, runtime, steps
from srgan_jax.training.steps import AXIS


def train(transform, recipe, count=3):
    mesh = parallel.create_mesh()
    step = partial(steps.adversarial_step, recipe)
    mapped = parallel.map_step(step, mesh, transform)
    state = parallel.replicate(tiny.state(recipe), mesh)
    constants = parallel.replicate(tiny.vgg_params(), mesh)
    batches = iter([tiny.batch(8, seed) for seed in range(count)])
    compiled = None
    for batch in parallel.feed(batches, mesh, transform):
        compiled = compiled or runtime.compile_step(mapped, state, constants, batch)
        state, metrics = compiled(state, constants, batch)
    return jax.device_get((state, metrics))


def test_shard_map_and_pmap_give_the_same_bits():
    recipe = tiny.recipe(content=tiny.vgg_content())
    jax.tree.map(
        np.testing.assert_array_equal, train("shard_map", recipe), train("pmap", recipe)
    )


@pytest.mark.parametrize("transform", parallel.TRANSFORMS)
def test_gradients_are_averaged_over_devices(transform):
    """Descent with a rate of one shows a gradient's scale, which Adam hides."""
    content = tiny.vgg_content()
    recipe = tiny.recipe(optimizer=optax.sgd(1.0), content=content, synchronised=True)
    before = tiny.state(recipe)
    after, _ = train(transform, recipe, count=1)
    one = jax.make_mesh((1,), (AXIS,), devices=jax.devices()[:1])
    step = parallel.map_step(partial(steps.adversarial_step, recipe), one)
    (whole,) = parallel.feed(iter([tiny.batch(8, 0)]), one)
    placed = parallel.replicate((before, tiny.vgg_params()), one)
    expected, _ = jax.device_get(step(*placed, whole))
    for network in ("generator", "discriminator"):
        start = getattr(before, network).params
        ours = jax.tree.map(lambda a, b: a - b, getattr(after, network).params, start)
        theirs = jax.tree.map(
            lambda a, b: a - b, getattr(expected, network).params, start
        )
        a, b = optax.tree.norm(ours), optax.tree.norm(theirs)
        np.testing.assert_allclose(a, b, rtol=1e-4)
        difference = jax.tree.map(lambda x, y: x - y, ours, theirs)
        assert optax.tree.norm(difference) < 1e-4 * b


def test_a_replicated_state_is_the_same_on_every_device():
    recipe = tiny.recipe()
    mesh = parallel.create_mesh()
    step = partial(steps.adversarial_step, recipe)
    step = parallel.map_step(step, mesh)
    state = parallel.replicate(tiny.state(recipe), mesh)
    (batch,) = parallel.feed(iter([tiny.batch(8)]), mesh)
    state, _ = step(state, None, batch)
    for leaf in jax.tree.leaves(state):
        first, *others = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(others) == 3
        for other in others:
            np.testing.assert_array_equal(first, other)


def test_donating_a_replicated_state_does_not_affect_its_source():
    source = {"a": np.ones(3, np.float32)}
    mesh = parallel.create_mesh()
    placed = parallel.replicate(source, mesh)
    assert placed["a"].sharding.spec == P()
    source["a"][:] = 7
    np.testing.assert_array_equal(placed["a"], np.ones(3))


def test_feed_splits_the_batch_in_order():
    mesh = parallel.create_mesh()
    batch = tiny.batch(8)
    (placed,) = parallel.feed(iter([batch]), mesh)
    np.testing.assert_array_equal(placed["hr"], batch["hr"])
    shards = placed["hr"].addressable_shards
    assert [shard.data.shape[0] for shard in shards] == [2, 2, 2, 2]


def test_an_indivisible_batch_is_refused():
    parallel.check(8, "pmap")
    with pytest.raises(ValueError, match=r"batch_size 6 .* 4 devices"):
        parallel.check(6, "shard_map")


def test_micro_batches_must_divide_a_device_s_batch():
    parallel.check(8, "shard_map", accumulate=2)
    with pytest.raises(
        ValueError, match=r"accumulate 3 does not divide the 2 examples"
    ):
        parallel.check(8, "shard_map", accumulate=3)


FAULTS_OF_A_RESULT = """
import resource, sys
from srgan_jax.training import runtime
if "reuse" in sys.argv:
    runtime.reuse_memory()
import jax, jax.numpy as jnp
double = jax.jit(lambda x: 2 * x)
x = jnp.ones(2**24)  # 64 MiB
for times in (8, 4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        double(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 4)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)
def test_a_step_reuses_the_memory_of_the_previous_one():
    """Otherwise the OS would clear every page again, with a page fault for each."""
    own = ("MALLOC", "GLIBC", "LD_PRELOAD")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(own)}

    def faults(*how):
        command = [sys.executable, "-c", FAULTS_OF_A_RESULT, *how]
        done = subprocess.run(command, env=variables, check=True, capture_output=True)
        return int(done.stdout)

    assert faults("reuse") < 0.1 * faults()
