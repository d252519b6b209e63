"""SRGAN on JAX: from a photograph on disk to a trained generator and an upscaled image.

import srgan_jax
upscaler = srgan_jax.load()
image = upscaler(image)  # uint8 [h, w, 3] to uint8 [4 h, 4 w, 3]
"""

import importlib.metadata
import os
from typing import TYPE_CHECKING

from srgan_jax import cuda_plugin

if TYPE_CHECKING:
    from srgan_jax.inference.upscaler import Upscaler

__all__ = ["__version__", "load"]
__version__ = importlib.metadata.version("srgan-jax")

cuda_plugin.hide_without_driver()


def load(
    name_or_file: str | os.PathLike[str] | None = None,
    *,
    tile: int | None = None,
    dtype: str = "float32",
    padding: str = "symmetric",
    offline: bool = False,
) -> "Upscaler":
    """Loads a generator that is ready to upscale images.

    Compiled programs are cached beside the downloaded weights, unless JAX's own
    compilation cache is already configured.

    Example:
      upscaler = srgan_jax.load()
      upscaler(PIL.Image.open("small.jpg")).save("large.png")
      upscaler(array)  # uint8 [h, w, 3] to uint8 [4 h, 4 w, 3]

    Args:
      name_or_file: a name in the catalog (`srgan-jax weights list`), or a weight file
        written by training or by `srgan-jax weights convert`. None takes the default of
        `srgan-jax upscale`.
      tile: largest side of the tiles that are computed one at a time, in LR pixels; see
        Upscaler.
      dtype: compute dtype, 'float32' or 'bfloat16', which is faster on devices that
        support it.
      padding: how an image is padded at its borders: with its mirror image
        ('symmetric') or with zeros ('zero'), as in training; see Upscaler.
      offline: forbid downloads.

    Raises:
      ValueError: the weights do not exist, or do not belong to a generator, or another
        argument is not one of the values above.
    """
    import jax  # here, so that importing the package takes no time

    from srgan_jax.inference.upscaler import Upscaler
    from srgan_jax.weights import store
    from srgan_jax.weights.catalog import DEFAULT_GENERATOR

    name = str(DEFAULT_GENERATOR if name_or_file is None else name_or_file)
    settings, variables = store.load_generator(name, offline=offline)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        programs = store.cache_dir() / "xla"
        jax.config.update("jax_compilation_cache_dir", str(programs))
        # also cache programs that compile fast
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return Upscaler(settings, variables, tile=tile, dtype=dtype, padding=padding)
