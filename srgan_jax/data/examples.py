"""Makes training examples: reads crops, replaces damaged images, augments, makes LR.

If an example's image is damaged, the example takes the next image in its epoch's order
that can be decoded (`sampling.Sampler.replacements`). Each example tries its own image
first, even if that image is known to be damaged. Examples therefore do not depend on
hosts or on resumes.
"""

import itertools
import threading
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from srgan_jax.data import augment, degrade, sampling
from srgan_jax.data.crops import CropReader
from srgan_jax.data.resize import imresize
from srgan_jax.data.sampling import Example, Sampler
from srgan_jax.data.source import Source, SourceError, UnreadableError
from srgan_jax.images.image import ImageError

Image = npt.NDArray[np.uint8]

DEGRADATIONS = ("bicubic", "photo")
BICUBIC_MARGIN = 2  # LR pixels by which the antialiased cubic extends beyond a crop


class Settings(NamedTuple):
    """How crops are made; for the fields see `pipeline.training_batches`."""

    crop: int
    scale: int
    seed: int
    exposure: float
    graded: float
    border: str
    degradation: str
    cache_bytes: int


class DamagedImages:
    """Records damaged images, and raises when there are too many.

    Args:
      source: the images of the run.
      skip: False to raise at the first damaged image.
    """

    def __init__(self, source: Source, skip: bool) -> None:
        self._source = source
        self._skip = skip
        self._reasons: dict[str, str] = {}
        self._unreported: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        """The number of damaged images that is tolerated: 1 %, but at least one."""
        return max(1, len(self._source) // 100)

    def add(self, image: int, error: ImageError) -> None:
        """Records a damaged image.

        Raises:
          ImageError: `skip` is False.
          SourceError: more images are damaged than `limit`.
        """
        if not self._skip:
            raise ImageError(
                f"{error}; restore the file, or set data.on_damage=skip to replace it"
            ) from error
        label = self._source.labels[image]
        with self._lock:
            if label not in self._reasons:
                self._reasons[label] = str(error)
                self._unreported.append((label, str(error)))
            if len(self._reasons) > self.limit:
                raise SourceError(
                    f"{len(self._reasons)} of {len(self._source)} images of "
                    f"{self._source.name} are damaged, more than 1 %: "
                    f"{', '.join(self._reasons)}; restore these files and run the same "
                    "command again"
                )

    def take_unreported(self) -> list[tuple[str, str]]:
        """Name and reason of each damaged image that was added since the last call."""
        with self._lock:
            unreported, self._unreported = self._unreported, []
        return unreported


class ExampleReader:
    """Reads the crops of examples.

    Attributes:
      margin: margin around an HR crop that is needed to make LR, in LR pixels.
      makes_lr: True if LR comes from `read_pair`. False if LR is MATLAB's bicubic of
        the crop and its margin; the pipeline then computes it.
    """

    def __init__(
        self,
        source: Source,
        sampler: Sampler,
        settings: Settings,
        damaged: DamagedImages,
    ) -> None:
        self._settings = settings
        self._sampler = sampler
        self._damaged = damaged
        crop, scale = settings.crop, settings.scale
        self.makes_lr = source.lr is not None or settings.degradation == "photo"
        self.margin = BICUBIC_MARGIN
        if self.makes_lr:
            self.margin = 0 if source.lr else degrade.MARGIN
        self._hr = CropReader(
            source,
            crop=crop,
            margin=self.margin * scale,
            multiple=scale,
            border=settings.border,
            cache_bytes=settings.cache_bytes,
        )
        self._lr: CropReader | None = None
        if source.lr is not None:
            self._lr = CropReader(
                source.lr,
                crop=crop // scale,
                margin=0,
                multiple=1,
                border=settings.border,
                cache_bytes=settings.cache_bytes // scale**2,
            )

    def read(self, example: Example) -> Image:
        """Reads the HR crop with its margin, uint8 `[side, side, 3]`.

        Raises:
          UnreadableError: a file cannot be read.
          ImageError: the image is damaged, and damaged images are not skipped.
          SourceError: too many images are damaged.
        """
        return self._augmented(example)[0]

    def read_pair(self, example: Example) -> tuple[Image, Image]:
        """Reads the HR and LR crops, uint8, without margins; raises as `read` does."""
        settings, margin = self._settings, self.margin * self._settings.scale
        hr, lr = self._augmented(example)
        if settings.degradation == "photo":
            random = sampling.degradation_generator(settings.seed, example.number)
            lr = degrade.photo(hr, settings.scale, random)
        elif lr is None:  # a graded patch has no LR file
            lr = imresize(hr, Fraction(1, settings.scale), border=settings.border)
        return hr[margin : len(hr) - margin, margin : len(hr) - margin], lr

    def _augmented(self, example: Example) -> tuple[Image, Image | None]:
        settings = self._settings
        hr, lr = self._decodable(example)
        if augment.is_replaced(settings.graded, example.graded):
            hr, lr = augment.graded_patch(len(hr), example.graded), None
        if settings.exposure:
            hr = augment.expose(hr, settings.exposure, example.exposure)
            if lr is not None:
                lr = augment.expose(lr, settings.exposure, example.exposure)
        return hr, lr

    def _decodable(self, example: Example) -> tuple[Image, Image | None]:
        """The crops of the example's image, or of a replacement if it is damaged."""
        candidates = itertools.chain([example], self._sampler.replacements(example))
        for image, top, left, *_ in candidates:
            try:
                hr = self._hr.read(image, top, left)
                if self._lr is None:
                    return hr, None
                scale = self._settings.scale
                return hr, self._lr.read(image, top // scale, left // scale)
            except UnreadableError:
                raise
            except ImageError as error:
                self._damaged.add(image, error)
        raise SourceError("no image of the source can be decoded; restore the files")
