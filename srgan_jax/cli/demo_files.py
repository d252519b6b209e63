"""The files behind the page of `srgan-jax demo`: uploads, results and examples."""

import dataclasses
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from srgan_jax.images.image import Image
    from srgan_jax.inference.upscaler import Upscaler

PREVIEW_PIXELS = 2**24  # largest preview; browsers decode no images of any size
PREVIEW_SIDE = 2**13
EXAMPLES = ("astronaut", "chelsea", "coffee")  # photographs of scikit-image
EXAMPLE_SIDE = 128


class Cancelled(Exception):
    """The user does not want the result any more."""


class Result(NamedTuple):
    """The files made from one image.

    Attributes:
      before: preview of the input, enlarged by bicubic.
      after: preview of the upscaled image.
      downloads: the upscaled image as PNG and, if JPEG can hold it, as JPEG.
      text: sizes, duration and notes.
    """

    before: Path
    after: Path
    downloads: list[Path]
    text: str


class Sessions:
    """The run and the files of each open page.

    Gradio runs events in threads. A run learns by `check` that it was cancelled, or
    that a later run of the same page has replaced it.
    """

    def __init__(self, uploads: Path) -> None:
        self._uploads = uploads
        self._runs: dict[str, object] = {}
        self._owners: dict[Path, set[str]] = {}

    def begin(self, session: str) -> None:
        """Makes a run that replaces an earlier one of the page."""
        self._runs[session] = object()

    def run(self, session: str) -> object:
        """The page's run.

        Raises:
          Cancelled: there is none.
        """
        self.check(session, run := self._runs.get(session))
        return run

    def check(self, session: str, run: object) -> None:
        """Raises Cancelled unless `run` is still the page's run."""
        if run is None or self._runs.get(session) is not run:
            raise Cancelled

    def cancel(self, session: str) -> None:
        self._runs.pop(session, None)

    def add(self, session: str, upload: Path) -> None:
        """Notes an upload; pages that upload equal files share one."""
        self._owners.setdefault(upload, set()).add(session)

    def folder(self, session: str) -> Path:
        """Makes an empty folder for the page's results; deletes earlier results."""
        shutil.rmtree(self._uploads / session, ignore_errors=True)
        folder = self._uploads / session / secrets.token_hex(4)  # no cached results
        folder.mkdir(parents=True)
        return folder

    def close(self, session: str) -> None:
        """Deletes the files of a page that was closed."""
        self.cancel(session)
        shutil.rmtree(self._uploads / session, ignore_errors=True)
        for file, sessions in list(self._owners.items()):
            sessions.discard(session)
            if not sessions:
                del self._owners[file]
                file.unlink(missing_ok=True)


def upscale(
    file: Path,
    folder: Path,
    upscaler: "Upscaler",
    max_megapixels: float,
    progress: Callable[[int, int], None],
) -> Result:
    """Upscales an image as `srgan-jax upscale` does, and writes a Result to `folder`.

    Raises:
      ImageError: the file is no image, has too many pixels, or is refused otherwise.
    """
    from srgan_jax.images import decode, encode
    from srgan_jax.images.image import ImageError
    from srgan_jax.inference import jobs

    start = time.perf_counter()
    data, limit = decode.read_bytes(file), round(1e6 * max_megapixels)
    image = decode.decode_upright(data, file.name, limit)
    result = jobs.upscale(image, lambda pixels: upscaler(pixels, progress))
    target = folder / f"{file.stem}-x{upscaler.scale}.png"
    remarks = [*image.notes, *encode.write(target, result)]
    downloads = [target, target.with_suffix(".jpg")]
    try:
        encode.write(downloads[1], result)
    except ImageError as error:
        remarks.append(str(error).removeprefix(f"{folder}{os.sep}"))
        downloads.pop()
    height, width = result.pixels.shape[:2]
    previews = folder / "before.jpg", folder / "after.jpg"
    for path, shown in zip(previews, (image, result), strict=True):
        encode.write(path, preview(shown, height, width))
    seconds = time.perf_counter() - start
    sentences = [f"{width} x {height} pixels after {seconds:.1f} seconds", *remarks]
    return Result(*previews, downloads, "".join(f"{s}.\n\n" for s in sentences))


def preview(image: "Image", height: int, width: int) -> "Image":
    """Resizes an image for the slider, on white if it is transparent."""
    import numpy as np
    import PIL.Image

    from srgan_jax.images.image import to_8_bits

    pixels = to_8_bits(image.pixels)
    if image.alpha is not None:
        alpha = to_8_bits(image.alpha) / 255
        alpha = alpha if pixels.ndim == 2 else alpha[..., None]
        pixels = np.rint(255 + (pixels - 255.0) * alpha).astype(np.uint8)
    factor = min(
        *(1, math.sqrt(PREVIEW_PIXELS / (height * width))),
        PREVIEW_SIDE / max(height, width),
    )
    size = max(1, round(factor * width)), max(1, round(factor * height))
    resized = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BICUBIC)
    return dataclasses.replace(image, pixels=np.asarray(resized), alpha=None)


def write_examples(folder: Path) -> list[Path]:
    """Writes scikit-image's photographs, at a small size, as the page's examples."""
    import PIL.Image
    import skimage.data

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in EXAMPLES:
        photo = PIL.Image.fromarray(getattr(skimage.data, name)())
        photo.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE), PIL.Image.Resampling.BICUBIC)
        paths.append(folder / f"{name}.png")
        photo.save(paths[-1])
    return paths
