"""Opens sources of training images: folders, LR/HR pairs, TFDS, or scikit-image.

Files that cannot be read or are too small for a crop are left out, and one warning
names them. A source without a usable image is refused. Only `tfds:` sources import
TensorFlow.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from srgan_jax import paths
from srgan_jax.buckets import SCHEME, BucketPath
from srgan_jax.data import pairs, scan
from srgan_jax.data.file_cache import FileCache
from srgan_jax.data.source import Source, SourceError, printable, read
from srgan_jax.images import decode
from srgan_jax.images.decode import Header
from srgan_jax.images.image import ImageError
from srgan_jax.paths import AnyPath

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]

_SAMPLE = (
    "chelsea",
    "coffee",
    "rocket",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "stereo_motorcycle",
)
_HELD_OUT = "astronaut"


def open_source(
    spec: str,
    *,
    minimum_size: int,
    scale: int | None = None,
    index_dir: AnyPath | None = None,
    file_cache: Path | None = None,
    relist: bool = True,
) -> Source:
    """Opens the images that a specification names.

    - `folder:PATH`: every image file below a folder, which may be in a bucket
      (`folder:gs://BUCKET/PATH`).
    - `pairs:HR,LR` or `pairs:FOLDER`: images with LR files of their own, in a second
      folder or as `*_HR` and `*_LR` in one; see `pairs.find_pairs` for the names.
    - `tfds:NAME[:SPLIT]`: a TFDS dataset, by default its split `train`; it is
      downloaded and prepared on first use.
    - `sample`: the colour images of scikit-image except the astronaut.
    - `astronaut`: scikit-image's astronaut, which is reserved for evaluation.

    Args:
      spec: the specification.
      minimum_size: images with fewer pixels on a side are left out.
      scale: HR size over LR size, needed for `pairs:`.
      index_dir: directory that stores image sizes between starts, see `scan`; by
        default nothing is stored.
      file_cache: directory that keeps the files of buckets; by default they are fetched
        each time they are read.
      relist: False to take the files of a folder in a bucket, and their sizes, from the
        index that another host has just written to `index_dir`.

    Raises:
      SourceError: the specification is unknown, the source has no usable image or
        cannot be downloaded, or the files or sizes of pairs do not match.
    """
    kind, _, argument = spec.partition(":")
    if spec == "sample":
        return _scikit_image(spec, _SAMPLE, minimum_size)
    if spec == _HELD_OUT:
        return _scikit_image(spec, (_HELD_OUT,), minimum_size)
    if kind == "folder" and argument:
        folder = paths.parse(argument).expanduser()
        index = scan.index_path(index_dir, folder)
        if isinstance(folder, BucketPath) and index is not None and not relist:
            listing = scan.read_listing(folder, index)
        else:
            listing = _listing(spec, folder, index)
        return _folder(spec, folder, *listing, minimum_size, file_cache)
    if kind == "pairs" and argument:
        if scale is None:
            raise SourceError(f"{spec} needs a scale; pass scale=HR size / LR size")
        return _pairs(spec, argument, minimum_size, scale, index_dir, file_cache)
    if kind == "tfds" and argument:
        name, _, split = argument.partition(":")
        return _tfds(spec, name, split or "train", minimum_size)
    raise SourceError(
        f"unknown source {spec!r}; expected 'folder:PATH', 'pairs:HR,LR', "
        "'pairs:FOLDER', 'tfds:NAME' or 'sample'"
    )


def names_bucket(spec: str) -> bool:
    """True if a specification names a folder or folders in a bucket."""
    kind, _, argument = spec.partition(":")
    return kind in ("folder", "pairs") and argument.startswith(SCHEME)


def _listing(
    spec: str, folder: AnyPath, index: AnyPath | None
) -> tuple[list[AnyPath], list[str], list[scan.Found]]:
    """Lists the files of a folder, their labels and headers."""
    try:
        files = decode.find(folder)
    except ValueError as error:
        raise SourceError(str(error)) from error
    labels = [printable(path.relative_to(folder)) for path in files]
    return files, labels, scan.file_headers(spec, files, labels, index)


def _folder(
    spec: str,
    folder: AnyPath,
    files: Sequence[AnyPath],
    labels: Sequence[str],
    found: Sequence[scan.Found],
    minimum_size: int,
    file_cache: Path | None,
) -> Source:
    kept = _usable(spec, labels, found, minimum_size)
    load = _file_reader(files, file_cache, folder)
    return _source(spec, labels, load, found, kept)


def _pairs(
    spec: str,
    argument: str,
    minimum_size: int,
    scale: int,
    index_dir: AnyPath | None,
    file_cache: Path | None,
) -> Source:
    hr_dir, lr_dir = pairs.split_folders(argument)
    files = pairs.find_pairs(hr_dir, lr_dir)
    hr_files = [pair.hr for pair in files]
    lr_files = [pair.lr for pair in files if pair.lr is not None]
    if not lr_files:
        raise SourceError(
            f"{spec}: the folder holds no *_HR and *_LR files; give a folder of LR "
            "files too ('pairs:HR,LR'), or use 'folder:PATH' to make LR from HR"
        )
    lr_dir = lr_dir or hr_dir
    hr_labels = [printable(path.relative_to(hr_dir)) for path in hr_files]
    # The files of a pair may have the same name; the folder distinguishes them.
    lr_labels = [
        printable(PurePosixPath(lr_dir.absolute().name, path.relative_to(lr_dir)))
        for path in lr_files
    ]
    index = scan.index_path(index_dir, hr_dir, lr_dir)
    found = scan.file_headers(spec, hr_files + lr_files, hr_labels + lr_labels, index)
    hr_found, lr_found = found[: len(files)], found[len(files) :]
    both: list[scan.Found] = []
    for pair, hr, lr in zip(files, hr_found, lr_found, strict=True):
        if isinstance(hr, Header) and isinstance(lr, Header):
            pairs.check_sizes(pair, hr[:2], lr[:2], scale)
        both.append(lr if isinstance(lr, ImageError) else hr)
    kept = _usable(spec, hr_labels, both, minimum_size)
    # One cache for both, since a cache makes room by deleting others.
    load = _file_reader(hr_files + lr_files, file_cache, hr_dir, lr_dir)
    lr_source = _source(spec, lr_labels, lambda i: load(len(files) + i), lr_found, kept)
    return _source(spec, hr_labels, load, hr_found, kept, lr_source)


def _tfds(spec: str, name: str, split: str, minimum_size: int) -> Source:
    from srgan_jax.data import records

    labels, load = records.open_records(name, split)
    found = scan.headers(
        spec, labels, lambda index: decode.read_header(io.BytesIO(load(index)))
    )
    kept = _usable(spec, labels, found, minimum_size)
    return _source(spec, labels, load, found, kept)


def _scikit_image(spec: str, names: Sequence[str], minimum_size: int) -> Source:
    import skimage.data

    images = [getattr(skimage.data, name)() for name in names]
    # The stereo pair consists of left image, right image and disparity.
    images = [image[0] if isinstance(image, tuple) else image for image in images]
    found: list[scan.Found] = [
        Header(image.shape[0], image.shape[1], False) for image in images
    ]
    kept = _usable(spec, names, found, minimum_size)
    return _source(spec, names, images.__getitem__, found, kept)


def _file_reader(
    files: Sequence[AnyPath], file_cache: Path | None, *folders: AnyPath
) -> Callable[[int], bytes]:
    """Returns a function that reads a file, given its index."""
    in_bucket = [path for path in files if isinstance(path, BucketPath)]
    if not in_bucket or file_cache is None:
        return lambda index: read(files[index].read_bytes, printable(files[index]))
    name = hashlib.sha256("\0".join(map(str, folders)).encode()).hexdigest()[:16]
    cache = FileCache(file_cache / name, in_bucket)

    def load(index: int) -> bytes:
        path = files[index]
        if not isinstance(path, BucketPath):  # one folder of pairs may be local
            return read(path.read_bytes, printable(path))
        return read(lambda: cache.read(path), printable(path))

    return load


def _usable(
    spec: str, labels: Sequence[str], found: Sequence[scan.Found], minimum_size: int
) -> list[int]:
    """Indices of the usable images; one warning names all others."""
    kept, left_out = [], []
    for index, header in enumerate(found):
        if isinstance(header, ImageError):
            left_out.append(str(header))
        elif min(header.height, header.width) < minimum_size:
            left_out.append(f"{labels[index]}: {header.width}x{header.height} pixels")
        else:
            kept.append(index)
    if left_out:
        logger.warning(
            "%s: left out %d of %d images, unreadable or with fewer than %d pixels "
            "on a side:\n  %s",
            *(spec, len(left_out), len(labels), minimum_size, "\n  ".join(left_out)),
        )
    if not kept:
        raise SourceError(
            f"{spec} holds no readable image of at least {minimum_size}x{minimum_size} "
            f"pixels among its {len(labels)}; give larger images or a smaller crop"
        )
    return kept


def _source(
    spec: str,
    labels: Sequence[str],
    load: Callable[[int], bytes | Image],
    found: Sequence[scan.Found],
    kept: Sequence[int],
    lr: Source | None = None,
) -> Source:
    """Makes a source of the images with indices `kept`, whose headers were read."""
    headers = [header for i in kept if isinstance(header := found[i], Header)]
    return Source(
        name=spec,
        labels=[labels[i] for i in kept],
        sizes=np.array([(h.height, h.width) for h in headers], np.int64),
        jpeg=np.array([h.jpeg for h in headers]),
        load=lambda i: load(kept[i]),
        lr=lr,
    )
