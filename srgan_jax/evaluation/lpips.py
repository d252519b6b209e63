"""LPIPS (Zhang et al. 2018, v0.1): the perceptual distance of two 8-bit images.

The network is AlexNet (`alex`, the one that papers report) or VGG16 (`vgg`), with the
authors' linear layers. Images are compared whole, without a crop. The catalog's weights
are pickles. They are read without running code: a pickle that holds anything but NumPy
arrays is refused.
"""

import io
import os
import pathlib
import pickle
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Network = Literal["alex", "vgg"]
NETWORKS: tuple[Network, ...] = get_args(Network)

# The stages of each network: the window of the max-pooling before the stage (stride 2;
# 0 for none) and its convolutions (width, kernel, stride, padding). LPIPS compares the
# last activation of each of the five stages.
STAGES: Mapping[str, tuple[tuple[int, tuple[tuple[int, int, int, int], ...]], ...]] = {
    "alex": (
        (0, ((64, 11, 4, 2),)),
        (3, ((192, 5, 1, 2),)),
        (3, ((384, 3, 1, 1),)),
        (0, ((256, 3, 1, 1),)),
        (0, ((256, 3, 1, 1),)),
    ),
    "vgg": tuple(
        (window, ((width, 3, 1, 1),) * convolutions)
        for window, width, convolutions in (
            (0, 64, 2),
            (2, 128, 2),
            (2, 256, 3),
            (2, 512, 3),
            (2, 512, 3),
        )
    ),
}
# Smallest side in pixels with which the last max-pooling still has a window.
SMALLEST = {"alex": 31, "vgg": 16}
# ImageNet's mean and standard deviation, as the authors give them for [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class Features(nn.Module):
    """Computes five feature maps of an image `[height, width, 3]` in [-1, 1].

    Attributes:
      network: the network that supplies the convolutions; see `STAGES`.
    """

    network: Network

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        x = (image - jnp.array([[SHIFT]])) / jnp.array([[SCALE]])
        maps = []
        for i, (window, convolutions) in enumerate(STAGES[self.network]):
            if window:
                x = nn.max_pool(x, (window, window), (2, 2))
            for j, (width, kernel, stride, padding) in enumerate(convolutions):
                x = nn.Conv(
                    width,
                    (kernel, kernel),
                    stride,
                    padding,
                    # A score must not depend on the device's default precision.
                    precision=jax.lax.Precision.HIGHEST,
                    name=f"conv{i + 1}_{j + 1}",
                )(x)
                x = nn.relu(x)
            maps.append(x)
        return maps


class Lpips:
    """The distance of two images: 0 if they are equal, about 1 if nothing agrees.

    The program is compiled once for each image size. Compiling takes less time than
    upscaling the image, so images are not padded to common sizes.

    Attributes:
      network: the network that computes the features, `alex` or `vgg`.
    """

    def __init__(self, network: Network, variables: Mapping[str, Any]) -> None:
        """Takes a network and its variables, as `read` returns them."""
        self.network = network
        self._variables = jax.device_put(variables)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> float:
        """Returns the distance of two uint8 images `[height, width, 3]` of one size.

        Raises:
          ValueError: the images have another type or shape, or are too small for the
            network.
        """
        for image in (x, y):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"LPIPS takes uint8 [height, width, 3], "
                    f"not {image.dtype} {list(image.shape)}"
                )
        if x.shape != y.shape:
            raise ValueError(
                f"LPIPS takes two images of one size, not {x.shape[1]}x{x.shape[0]} "
                f"and {y.shape[1]}x{y.shape[0]}"
            )
        if min(x.shape[:2]) < SMALLEST[self.network]:
            raise ValueError(
                f"LPIPS with '{self.network}' takes images of at least "
                f"{SMALLEST[self.network]} pixels a side, not {x.shape[1]}x{x.shape[0]}"
            )
        params, linear = self._variables["params"], self._variables["linear"]
        features = partial(_unit_features, self.network, params)
        return float(_distance(features(x), features(y), linear))


def load(network: Network, *, offline: bool = False) -> Lpips:
    """Returns LPIPS with the catalog's weights, which are downloaded at first use.

    Args:
      network: `alex` or `vgg`.
      offline: forbid downloads.

    Raises:
      ValueError: there is no such network, or its weights are not available.
    """
    from srgan_jax.weights import store

    if network not in NETWORKS:
        raise ValueError(
            f"unknown LPIPS network '{network}': choose from {', '.join(NETWORKS)}"
        )
    return Lpips(
        network, read(store.fetch(f"lpips-{network}", offline=offline), network)
    )


def read(path: str | os.PathLike[str], network: Network) -> dict[str, Any]:
    """Reads the pickle of LPIPS weights that the catalog's mirror distributes.

    Args:
      path: the file.
      network: the network that the file should hold.

    Returns:
      `params`, the convolutions' parameters, and `linear`, five arrays `[channels]`.

    Raises:
      ValueError: the file holds anything but arrays, or another network.
    """
    content = io.BytesIO(pathlib.Path(path).read_bytes())
    try:
        pickled = _ArraysOnly(content).load()
        trunk = pickled[{"alex": "AlexNet_0", "vgg": "VGG16_0"}[network]]
        convolutions = iter(trunk[f"Conv_{i}"] for i in range(len(trunk)))
        params = {
            f"conv{i + 1}_{j + 1}": next(convolutions)
            for i, (_, stage) in enumerate(STAGES[network])
            for j in range(len(stage))
        }
        linear = [
            pickled[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)
            for i in range(len(STAGES[network]))
        ]
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"{path} holds no LPIPS weights for '{network}' ({error!r}): "
            "remove it and fetch it again"
        ) from error
    return {"params": params, "linear": linear}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays, which use three names, and refuses every other name."""

    ADMITTED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"the pickle holds {module}.{name}, which is not an array"
            ) from None


# Features and distance are two programs. One program computes the features of either
# image, so equal images have equal features and their distance is exactly 0.
@partial(jax.jit, static_argnums=0)
def _unit_features(
    network: Network, params: Mapping[str, Any], image: jax.Array
) -> list[jax.Array]:
    """Returns a uint8 image's feature maps, normalised to length 1 per position."""
    maps = Features(network).apply(
        {"params": params}, image.astype(jnp.float32) / 127.5 - 1
    )
    return [x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in maps]


@jax.jit
def _distance(
    x: list[jax.Array], y: list[jax.Array], linear: list[jax.Array]
) -> jax.Array:
    """Computes eq. 1: squared differences, weighted by channel, mean over positions."""
    terms = [
        jnp.mean(jnp.square(a - b), axis=(0, 1)) @ weights
        for a, b, weights in zip(x, y, linear, strict=True)
    ]
    return jnp.stack(terms).sum()
