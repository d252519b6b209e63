"""Chooses an implementation of a function by platform.

The choice is made when a program is lowered, not when it is traced: a program that is
compiled for a TPU on a machine without one uses the TPU's implementation.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

Function = Callable[..., jax.Array]

_forced = jax.make_user_context(default_value=None)


def force_platform(platform: str) -> Any:
    """A context in which functions use the implementation for `platform`.

    Tests use it to run the code of other platforms on the devices they have. `jax.jit`
    traces a function again inside the context.

    Args:
      platform: 'cpu', 'cuda' or 'tpu'.
    """
    return _forced(platform)


def choose(*, default: Any, **values: Any) -> Any:
    """Chooses a value by the platform of this process's devices.

    For what is decided before a program is lowered, such as shapes.

    Args:
      default: value for all other platforms.
      values: values by platform ('tpu', 'cpu', 'cuda').
    """
    backend = jax.default_backend()
    platform = _forced.value or ("cuda" if backend == "gpu" else backend)
    return values.get(platform, default)


def platform_dependent(*arguments: Any, default: Callable, **forms: Callable) -> Any:
    """Calls the implementation for the platform that the program is lowered for.

    Args:
      arguments: pytrees of arrays.
      default: implementation for all other platforms.
      forms: implementations by platform ('tpu', 'cpu', 'cuda').
    """
    if _forced.value is not None:
        return forms.get(_forced.value, default)(*arguments)
    return lax.platform_dependent(*arguments, default=default, **forms)


def by_platform(*, default: Function, **forms: Function) -> Function:
    """Combines implementations of one function, each with its own gradient.

    The gradient chooses by platform again. Differentiating `lax.platform_dependent`
    itself would go through all branches and keep the residuals of each.

    Args:
      default: implementation for all other platforms.
      forms: implementations by platform ('tpu', 'cpu', 'cuda').
    """

    def vjp_of(form: Function) -> Callable:
        def vjp(arguments: Any, cotangent: jax.Array) -> Any:
            return jax.vjp(form, *arguments)[1](cotangent)

        return vjp

    @jax.custom_vjp
    def function(*arguments: jax.Array) -> jax.Array:
        return platform_dependent(*arguments, default=default, **forms)

    def forward(*arguments: jax.Array) -> tuple[jax.Array, Any]:
        return function(*arguments), arguments

    def backward(arguments: Any, cotangent: jax.Array) -> Any:
        vjps = {platform: vjp_of(form) for platform, form in forms.items()}
        return platform_dependent(arguments, cotangent, default=vjp_of(default), **vjps)

    function.defvjp(forward, backward)
    return function
