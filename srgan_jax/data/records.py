"""Reads encoded images of TensorFlow Datasets (TFDS) by random access (ArrayRecord).

A dataset that has not been prepared is downloaded and prepared. A request with a short
timeout comes first, since TFDS retries for minutes if a host is unreachable. Datasets
without a feature `hr` or `image` are refused.

`TFDS_DATA_DIR` may be in a bucket. ArrayRecord reads from there but cannot write, so a
dataset is prepared in a temporary folder and then uploaded.
"""

import logging
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from srgan_jax import paths
from srgan_jax.bucket_client import BucketError
from srgan_jax.buckets import BucketPath
from srgan_jax.data.quiet_tf import import_tensorflow
from srgan_jax.data.source import SourceError, first_line, read

logger = logging.getLogger(__name__)

_ALTERNATIVES = (
    "train on images of your own with --config.data.source=folder:PATH, or on the "
    "images inside scikit-image with --config.data.source=sample"
)
_TIMEOUT = 10  # seconds to wait for a dataset's host to answer


def open_records(name: str, split: str) -> tuple[list[str], Callable[[int], bytes]]:
    """Opens a split of a dataset.

    Returns:
      The labels of the images, and a function from an index to the image's encoded
      bytes.

    Raises:
      SourceError: the dataset or the split is unknown, has no images, or can neither be
        found nor downloaded.
    """
    try:
        paths.parse(os.environ.get("TFDS_DATA_DIR", ""))
    except ValueError as error:
        raise SourceError(f"TFDS_DATA_DIR={error}") from error
    try:
        return _open(name, split)
    except (SourceError, BucketError):
        raise
    except Exception as error:  # TFDS and the drivers of storage raise anything
        raise SourceError(
            f"the TFDS dataset {name!r} cannot be opened ({first_line(error)}); solve "
            f"this and run the same command again, or {_ALTERNATIVES}"
        ) from error


def _open(name: str, split: str) -> tuple[list[str], Callable[[int], bytes]]:
    builder = _builder(name)
    feature = next((f for f in ("hr", "image") if f in builder.info.features), None)
    if feature is None:
        raise SourceError(
            f"the TFDS dataset {name!r} has neither a feature 'hr' nor 'image', only "
            f"{', '.join(builder.info.features)}; {_ALTERNATIVES}"
        )
    if not builder.is_prepared():
        if isinstance(target := paths.parse(str(builder.data_path)), BucketPath):
            _prepare_in_bucket(name, target)
        else:
            _prepare(builder)
        builder = _builder(name)
    import tensorflow_datasets as tfds

    try:
        records = builder.as_data_source(
            split, decoders={feature: tfds.decode.SkipDecoding()}
        )
    except (ValueError, NotImplementedError) as error:
        raise SourceError(f"the TFDS dataset {name!r}: {error}") from error
    labels = [f"{name}/{split}[{index}]" for index in range(len(records))]
    return labels, lambda index: read(lambda: records[index][feature], labels[index])


def _builder(name: str, **options: Any) -> Any:
    import_tensorflow()  # before TFDS, which would import it with accelerators
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, file_format="array_record", **options)
    except (ValueError, tfds.core.DatasetNotFoundError) as error:
        raise SourceError(
            f"TFDS has no dataset {name!r} ({first_line(error)})"
        ) from error


def _prepare_in_bucket(name: str, target: BucketPath) -> None:
    with tempfile.TemporaryDirectory() as folder:
        builder = _builder(name, data_dir=folder)
        _prepare(builder)
        logger.info("uploading %s to %s", name, target)
        files = [path for path in builder.data_path.iterdir() if path.is_file()]
        # The last one makes the dataset count as prepared.
        for path in sorted(files, key=lambda path: path.name == "dataset_info.json"):
            (target / path.name).upload(path)


def _prepare(builder: Any) -> None:
    urls = list(builder.url_infos or ())
    for host in {urllib.parse.urlsplit(url)[:2]: url for url in urls}.values():
        _check_reachable(builder.name, host)
    logger.info("TFDS prepares %s in %s", builder.name, builder.data_path)
    try:
        builder.download_and_prepare()
    except Exception as error:  # manual downloads, checksums, disks, networks
        raise SourceError(
            f"TFDS cannot prepare {builder.name!r} in {builder.data_path}: {error}\n"
            f"if that cannot be solved, {_ALTERNATIVES}"
        ) from error


def _check_reachable(name: str, url: str) -> None:
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT).close()
    except urllib.error.HTTPError:
        pass  # the host is reachable, but may not support HEAD
    except OSError as error:
        raise SourceError(
            f"the TFDS dataset {name!r} is not on this machine, and "
            f"{urllib.parse.urlsplit(url).hostname} cannot be reached ({error}); "
            "prepare it where there is a network and set TFDS_DATA_DIR, or "
            f"{_ALTERNATIVES}"
        ) from error
