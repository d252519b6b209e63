"""The discriminator's parameter count, crop sizes, padding and output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax.models.discriminator import Discriminator

KEY = jax.random.key(0)
SMALL = {"channels": 4, "hidden": 8}


def test_the_paper_s_discriminator_has_its_number_of_parameters():
    init = Discriminator().init
    variables = jax.eval_shape(init, KEY, jnp.zeros((1, 96, 96, 3)))
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert sum(sizes) == 23_563_649


def test_the_discriminator_returns_one_unbounded_logit_per_image():
    images = jax.random.uniform(KEY, (3, 32, 32, 3))
    network = Discriminator(**SMALL)
    variables = network.init(KEY, images)
    variables["params"]["dense_1"]["bias"] = jnp.array([-7.0])
    logits = network.apply(variables, images)
    assert logits.shape == (3,)
    assert logits.max() < 0


def test_a_dense_head_takes_one_crop_size_and_a_pooled_head_any():
    small, large = jnp.ones((1, 96, 96, 3)), jnp.ones((1, 112, 128, 3))
    dense, pooled = Discriminator(**SMALL), Discriminator(head="pooled", **SMALL)
    variables = dense.init(KEY, small)
    with pytest.raises(Exception, match="kernel"):
        dense.apply(variables, large)
    assert pooled.apply(variables, large).shape == (1,)
    # at 96x96 the pooling changes nothing
    images = jax.random.uniform(KEY, (2, 96, 96, 3))
    np.testing.assert_allclose(
        pooled.apply(variables, images), dense.apply(variables, images), rtol=1e-4
    )


def test_torch_and_tf_padding_differ():
    images = jax.random.uniform(KEY, (2, 32, 32, 3))
    variables = Discriminator(**SMALL).init(KEY, images)
    torch = Discriminator(padding="torch", **SMALL).apply(variables, images)
    tf = Discriminator(padding="tf", **SMALL).apply(variables, images)
    assert np.abs(torch - tf).max() > 1e-6


def test_invalid_settings_are_refused():
    images = jnp.ones((1, 32, 32, 3))
    with pytest.raises(ValueError, match="head is 'conv'"):
        Discriminator(head="conv").init(KEY, images)
    with pytest.raises(ValueError, match="padding is 'same'"):
        Discriminator(padding="same").init(KEY, images)
