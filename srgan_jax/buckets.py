"""Files in Google Cloud Storage, with the methods of `pathlib.Path` that we use.

An object appears in a bucket only once it is complete, so every write is atomic. A
bucket has no folders: a folder exists while an object's name begins with its path.

Requests that fail for a reason that may pass (a lost connection, status 408, 429 or
5xx) are repeated after exponentially growing random waits, for `RETRY_SECONDS` at most.
"""

import contextlib
import errno
import importlib.util
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

SCHEME = "gs://"
RETRY_SECONDS = 120.0
HEADER_BYTES = 2**16  # read at a time of a large file, such as its header
SMALL_BYTES = 2**18

_MODULES = ("gcsfs", "google.cloud.storage")
_clients = threading.local()  # a client's connections serve one thread at a time


class BucketError(OSError):
    """A bucket cannot be used; the message says why and what to do."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(errno.EIO, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True, order=True)
class BucketPath:
    """An object, or a folder of objects, in a bucket.

    All methods that ask the bucket raise a FileNotFoundError if the object is missing,
    and a BucketError if the bucket cannot be used.

    Attributes:
      bucket: name of the bucket.
      key: name of the object, without a slash at its start or end.
      stamp: generation and size in bytes, if they are known from a listing.
    """

    bucket: str
    key: str
    stamp: tuple[int, int] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __fspath__(self) -> str:
        return str(self)

    def __truediv__(self, name: str | PurePosixPath) -> "BucketPath":
        return BucketPath(self.bucket, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name or self.bucket

    @property
    def stem(self) -> str:
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.bucket, *PurePosixPath(self.key).parts)

    @property
    def parent(self) -> "BucketPath":
        return BucketPath(self.bucket, self.key.rpartition("/")[0])

    def relative_to(self, folder: str | os.PathLike[str]) -> PurePosixPath:
        whole = PurePosixPath(str(self).removeprefix(SCHEME))
        return whole.relative_to(os.fspath(folder).removeprefix(SCHEME))

    def absolute(self) -> "BucketPath":
        return self

    def expanduser(self) -> "BucketPath":
        return self

    def resolve(self) -> "BucketPath":
        return self

    def is_file(self) -> bool:
        with self._requests():
            return bool(self.key) and self._blob().exists(retry=_retry())

    def is_dir(self) -> bool:
        return next(self._listed(max_results=1), None) is not None

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Does nothing, except that a missing bucket raises a BucketError."""
        self.is_dir()

    def files(self) -> list["BucketPath"]:
        """Lists all objects below this folder, sorted by name, with their stamps."""
        return sorted(
            BucketPath(self.bucket, blob.name, (blob.generation, blob.size))
            for blob in self._listed()
            if not blob.name.endswith("/")  # how some programs mark a folder
        )

    def status(self) -> tuple[int, int, float]:
        """Returns the object's generation, size in bytes and time of its last write."""
        blob = self._blob()
        with self._requests():
            blob.reload(retry=_retry())
        return blob.generation, blob.size, blob.updated.timestamp()

    def read_bytes(self) -> bytes:
        with self._requests():
            data: bytes = self._blob().download_as_bytes(retry=_retry())
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    @contextlib.contextmanager
    def reading(self) -> Iterator[BinaryIO]:
        """Opens the object for reading parts of it, such as an image's header."""
        if self.stamp is not None and self.stamp[1] <= SMALL_BYTES:
            yield io.BytesIO(self.read_bytes())  # one request instead of four
            return
        blob = self._blob()
        with self._requests(), blob.open("rb", chunk_size=HEADER_BYTES) as file:
            yield file

    def write_bytes(self, data: bytes, *, replacing: int | None = None) -> int:
        """Writes the object.

        Args:
          data: the contents.
          replacing: generation of the object that is replaced, 0 for a new object; by
            default whatever object there is.

        Returns:
          The generation of the written object.

        Raises:
          FileExistsError: there is another object than the one to replace.
        """
        blob = self._blob()
        with self._requests():
            blob.upload_from_string(
                data,
                "application/octet-stream",
                if_generation_match=replacing,
                retry=_retry(),
            )
        return int(blob.generation)

    def upload(self, path: str | os.PathLike[str]) -> None:
        """Writes the object with the contents of a local file."""
        with self._requests():
            self._blob().upload_from_filename(os.fspath(path), retry=_retry())

    def download(self, path: str | os.PathLike[str]) -> None:
        """Copies the object to a local file."""
        with self._requests():
            self._blob().download_to_filename(os.fspath(path), retry=_retry())

    def append(self, data: bytes, size: int) -> None:
        """Appends to an object by composing it with a second one, inside the bucket.

        Args:
          data: the bytes to append.
          size: number of bytes that the object has. If it has more, an earlier attempt
            whose answer was lost succeeded, and nothing is appended.

        Raises:
          BucketError: the object has another size.
        """
        generation, before, _ = self.status()
        if before == size + len(data):
            return
        if before != size:
            raise BucketError(
                self, f"has {before} bytes instead of {size}; another program wrote it"
            )
        tail = self.parent / f".{self.name}.part"
        tail.write_bytes(data)
        try:
            with self._requests():
                self._blob().compose(
                    [self._blob(), tail._blob()],
                    if_generation_match=generation,
                    retry=_retry(),
                )
        except FileExistsError:  # the answer to a first attempt may have been lost
            if self.status()[1] != size + len(data):
                raise
        tail.unlink(missing_ok=True)

    def unlink(self, missing_ok: bool = False, *, only: int | None = None) -> None:
        """Deletes the object.

        Args:
          missing_ok: don't raise an error if there is no such object.
          only: delete this generation only.

        Raises:
          FileExistsError: the object has another generation.
        """
        try:
            with self._requests():
                self._blob().delete(if_generation_match=only, retry=_retry())
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _blob(self) -> Any:
        return _client(self).bucket(self.bucket).blob(self.key)

    def _listed(self, **options: Any) -> Iterator[Any]:
        prefix = f"{self.key}/" if self.key else ""
        try:
            with self._requests():
                yield from _client(self).list_blobs(
                    self.bucket, prefix=prefix, retry=_retry(), **options
                )
        except FileNotFoundError as error:
            raise BucketError(
                self,
                f"there is no bucket {self.bucket}; correct its name, or create it "
                f"with `gcloud storage buckets create {SCHEME}{self.bucket}`",
            ) from error

    @contextlib.contextmanager
    def _requests(self) -> Iterator[None]:
        """Turns the client's errors into those of the operating system."""
        from google.api_core import exceptions as api
        from google.auth import exceptions as auth
        from google.cloud.storage import exceptions as storage
        from requests import exceptions as http

        try:
            yield
        except api.NotFound as error:
            raise FileNotFoundError(
                errno.ENOENT, os.strerror(errno.ENOENT), str(self)
            ) from error
        except api.PreconditionFailed as error:
            raise FileExistsError(
                errno.EEXIST, os.strerror(errno.EEXIST), str(self)
            ) from error
        except (api.Forbidden, api.Unauthorized, auth.GoogleAuthError) as error:
            raise BucketError(
                self,
                f"access was refused ({_reason(error)}); give this machine's service "
                "account the role Storage Object User and Storage Legacy Bucket "
                "Reader, or run `gcloud auth application-default login`",
            ) from error
        except (
            api.RetryError,
            api.ServerError,
            api.TooManyRequests,
            http.RequestException,
        ) as error:
            raise BucketError(
                self,
                f"the bucket did not answer in {RETRY_SECONDS:.0f} s "
                f"({_reason(error)}); run the same command again once it does",
            ) from error
        except (api.GoogleAPIError, storage.DataCorruption) as error:
            raise BucketError(
                self, f"the bucket refused the request ({_reason(error)})"
            ) from error


def parse(text: str) -> BucketPath:
    """Makes a path from `gs://BUCKET/...`.

    Raises:
      ValueError: the name of the bucket is missing, or the libraries are.
    """
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise ValueError(f"{text} names no bucket; expected gs://BUCKET/PATH")
    _configure(text)
    return BucketPath(bucket, "/".join(part for part in key.split("/") if part))


def _configure(text: str) -> None:
    """Prepares the libraries that read buckets for Orbax and TFDS.

    Both use etils' epath. It takes TensorFlow's file system unless told otherwise,
    which keeps what it has read for seconds, so one host might not see another's files.

    Raises:
      ValueError: they are not installed.
    """
    try:
        missing = not all(map(importlib.util.find_spec, _MODULES))
    except ModuleNotFoundError:  # no package `google` at all
        missing = True
    if missing:
        raise ValueError(f"{text} needs more packages: pip install 'srgan-jax[gcs]'")
    os.environ.setdefault("EPATH_USE_TF", "false")
    # gcsfs would ask by gRPC what kind of bucket it is, and wait for minutes where a
    # firewall or an emulator does not answer.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import fsspec

    # A cached listing would hide the files that other hosts have written since.
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)


def _client(path: BucketPath) -> Any:
    """Returns this thread's client."""
    if not hasattr(_clients, "client"):
        from google.cloud import storage

        with path._requests():
            try:
                _clients.client = storage.Client()
            except OSError as error:
                raise BucketError(
                    path,
                    "the Google Cloud project is unknown; set GOOGLE_CLOUD_PROJECT in "
                    "the environment",
                ) from error
    return _clients.client


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS)


def _reason(error: Exception) -> str:
    """Returns the status of the answer, or the first line of what the client says."""
    cause = getattr(error, "cause", None) or error
    response = getattr(cause, "response", None)
    status = getattr(cause, "code", None) or getattr(response, "status_code", None)
    if status is not None and (status in (408, 429) or status >= 500):
        return f"status {int(status)}"
    text = getattr(cause, "message", None) or str(cause) or type(cause).__name__
    line: str = text.splitlines()[0]
    return line if len(line) <= 200 else f"{line[:100]} ... {line[-100:]}"
