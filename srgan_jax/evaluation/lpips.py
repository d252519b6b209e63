"""LPIPS (Zhang et al. 2018, v0.1): the perceptual distance of two 8-bit images.

AlexNet ("alex", what papers print) or VGG16 ("vgg"), with the authors' linear layers,
on whole images without a crop. The weights come from the catalog as pickles, which are
read without running anything: a pickle that asks for more than NumPy arrays is
refused, as are images too small for the network.
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

# Stages of either network: window of the max-pooling before it (stride 2; 0 for none)
# and its convolutions (width, kernel, stride, padding). A stage's last activation is
# one of the five feature maps that are compared.
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
SMALLEST = {"alex": 31, "vgg": 16}  # pixels, for the last max-pooling to see anything
# ImageNet's mean and deviation, as the authors have them for images in [-1, 1].
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class Features(nn.Module):
    """An image `[height, width, 3]` in [-1, 1] to five feature maps.

    Attributes:
        network: whose convolutions; see `STAGES`.
    """

    network: Network

    @nn.compact
    def __call__(self, image: jax.Array) -> list[jax.Array]:
        x = (image - jnp.array(SHIFT)) / jnp.array(SCALE)
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
                    # A figure must not depend on the device's default precision.
                    precision=jax.lax.Precision.HIGHEST,
                    name=f"conv{i + 1}_{j + 1}",
                )(x)
                x = nn.relu(x)
            maps.append(x)
        return maps


class Lpips:
    """Distance of two images: 0 where they are equal, about 1 where nothing agrees.

    Compiled once for each size of image, in less time than a generator takes to
    upscale such an image; sizes are therefore not padded to common ones.
    """

    def __init__(self, network: Network, variables: Mapping[str, Any]) -> None:
        """Takes what `read` returns."""
        self.network = network
        self._variables = jax.device_put(variables)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> float:
        """LPIPS of two uint8 images `[height, width, 3]` of one size.

        Raises:
            ValueError: other images than that, or smaller ones than the network takes.
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


def load(network: Network) -> Lpips:
    """LPIPS with the catalog's weights, fetched at first use."""
    from srgan_jax.weights import store

    if network not in NETWORKS:
        raise ValueError(
            f"unknown LPIPS network '{network}': choose from {', '.join(NETWORKS)}"
        )
    return Lpips(network, read(store.fetch(f"lpips-{network}"), network))


def read(path: str | os.PathLike[str], network: Network) -> dict[str, Any]:
    """Reads the carrier's pickle into `{"params": ..., "linear": [5 x [channels]]}`.

    Raises:
        ValueError: the file holds something else than arrays, or another network.
    """
    content = io.BytesIO(pathlib.Path(path).read_bytes())
    try:
        carried = _ArraysOnly(content).load()
        trunk = carried[{"alex": "AlexNet_0", "vgg": "VGG16_0"}[network]]
        convolutions = iter(trunk[f"Conv_{i}"] for i in range(len(trunk)))
        params = {
            f"conv{i + 1}_{j + 1}": next(convolutions)
            for i, (_, stage) in enumerate(STAGES[network])
            for j in range(len(stage))
        }
        linear = [
            carried[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)
            for i in range(len(STAGES[network]))
        ]
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"{path} holds no LPIPS weights for '{network}' ({error!r}): "
            "remove it and fetch it again"
        ) from error
    return {"params": params, "linear": linear}


class _ArraysOnly(pickle.Unpickler):
    """Admits the three names a pickled NumPy array needs, and no other."""

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
                f"it asks for {module}.{name}, which is no array"
            ) from None


# Two programs, not one: the same one gives both images' features, so that those of
# equal images are equal in every bit and their distance is exactly 0.
@partial(jax.jit, static_argnums=0)
def _unit_features(
    network: Network, params: Mapping[str, Any], image: jax.Array
) -> list[jax.Array]:
    """Feature maps of a uint8 image, each position scaled to unit length."""
    maps = Features(network).apply(
        {"params": params}, image.astype(jnp.float32) / 127.5 - 1
    )
    return [x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in maps]


@jax.jit
def _distance(
    x: list[jax.Array], y: list[jax.Array], linear: list[jax.Array]
) -> jax.Array:
    """Eq. 1: squared differences, weighted by channel and averaged over positions."""
    terms = [
        jnp.mean(jnp.square(a - b), axis=(0, 1)) @ weights
        for a, b, weights in zip(x, y, linear, strict=True)
    ]
    return jnp.stack(terms).sum()
