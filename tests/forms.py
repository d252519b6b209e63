"""Shared by tests of kernels: random arrays, and comparison of implementations."""

import jax
import numpy as np

from srgan_jax.kernels.dispatch import force_platform

RNG = np.random.default_rng(0)


def on(platform, function):
    """The function and its gradient with a platform's implementations."""

    @jax.custom_vjp
    def forced(*arguments):
        with force_platform(platform):
            return function(*arguments)

    def forward(*arguments):
        return forced(*arguments), arguments

    def backward(arguments, cotangent):
        with force_platform(platform):
            return jax.vjp(function, *arguments)[1](cotangent)

    forced.defvjp(forward, backward)
    return forced


def normal(*shape, mean=0.0, deviation=1.0):
    return RNG.normal(mean, deviation, shape).astype(np.float32)


def assert_same(fast, plain, *arguments, rtol=1e-4):
    """Compares values, and gradients of every argument for a random cotangent."""
    values, vjp = jax.vjp(fast, *arguments)
    expected, expected_vjp = jax.vjp(plain, *arguments)
    cotangent = jax.tree.map(lambda v: normal(*v.shape), expected)
    got = jax.tree.leaves((values, vjp(cotangent)))
    want = jax.tree.leaves((expected, expected_vjp(cotangent)))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def values_and_gradients(function, x, kernel, cotangent):
    values, vjp = jax.vjp(function, x, kernel)
    return [np.asarray(leaf) for leaf in (values, *vjp(cotangent))]


def lowered_for(platform, function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,))


def products_of(function, *arguments, platform="cpu"):
    """The matrix products in a program that computes a function and its gradients."""

    def gradients(*arguments):
        values, vjp = jax.vjp(function, *arguments)
        return values, vjp(values)

    text = lowered_for(platform, gradients, *arguments).as_text()
    return text.count("stablehlo.dot_general")
