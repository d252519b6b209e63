"""Interpolates between generators, which trades PSNR for perceptual quality."""

from typing import Any

import jax
import numpy as np

from srgan_jax.models import registry
from srgan_jax.weights.layout import WeightsError

Generator = tuple[dict[str, Any], dict[str, Any]]  # settings, variables


def blend(a: Generator, b: Generator, alpha: float) -> dict[str, Any]:
    """Computes (1 - alpha) a + alpha b for parameters and batch statistics.

    The result is a useful generator only if one of the two was fine-tuned from the
    other (network interpolation; Wang et al. 2018, "ESRGAN", sec. 3.4).

    Args:
      a: settings and variables, as `store.load_generator` returns them.
      b: settings and variables; the settings must equal those of `a`.
      alpha: weight of `b`, in [0, 1].

    Returns:
      Variables for the settings of `a`.

    Raises:
      WeightsError: the settings differ, or `alpha` is outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise WeightsError(f"alpha is {alpha}; expected a number from 0 to 1")
    (a_settings, a_variables), (b_settings, b_variables) = a, b
    left, right = _attributes(a_settings), _attributes(b_settings)
    different = [
        f"{name} is {left.get(name)!r} in one and {right.get(name)!r} in the other"
        for name in left | right
        if left.get(name) != right.get(name)
    ]
    if different:
        raise WeightsError(
            "generators can be blended only if their settings are equal: "
            + "; ".join(different)
        )
    return jax.tree.map(
        lambda x, y: ((1 - alpha) * x + alpha * y).astype(np.float32),
        a_variables,
        b_variables,
    )


def _attributes(settings: dict[str, Any]) -> dict[str, Any]:
    """All settings, including the defaults of missing ones."""
    network = registry.create("generator", settings)
    names = (n for n in network.__dataclass_fields__ if n not in registry.EXECUTION)
    return {"network": type(network).__name__} | {n: getattr(network, n) for n in names}
