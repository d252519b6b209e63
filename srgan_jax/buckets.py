"""Files in Google Cloud Storage, with the methods of `pathlib.Path` that we use.

An object appears in a bucket only once it is complete, so every write is atomic. A
bucket has no folders: a folder exists while an object's name begins with its path.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from srgan_jax.bucket_client import (
    BucketError,
    client,
    configure,
    retry,
    translated_errors,
)

SCHEME = "gs://"
HEADER_BYTES = 2**16  # read at a time of a large file, such as its header
SMALL_BYTES = 2**18  # a file up to this size is read by one request


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
        with translated_errors(self):
            return bool(self.key) and self._blob().exists(retry=retry())

    def is_dir(self) -> bool:
        return next(self._listed(max_results=1), None) is not None

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Does nothing, except that a missing bucket raises a BucketError.

        The arguments are those of `pathlib.Path.mkdir`.
        """
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
        with translated_errors(self):
            blob.reload(retry=retry())
        return blob.generation, blob.size, blob.updated.timestamp()

    def read_bytes(self) -> bytes:
        with translated_errors(self):
            data: bytes = self._blob().download_as_bytes(retry=retry())
        return data

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    @contextlib.contextmanager
    def reading(self) -> Iterator[BinaryIO]:
        """Opens the object for reading parts of it, such as an image's header."""
        if self.stamp is not None and self.stamp[1] <= SMALL_BYTES:
            yield io.BytesIO(self.read_bytes())  # one request instead of four
            return
        options = {"chunk_size": HEADER_BYTES, "retry": retry()}
        with translated_errors(self), self._blob().open("rb", **options) as file:
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
        with translated_errors(self):
            blob.upload_from_string(
                data,
                "application/octet-stream",
                if_generation_match=replacing,
                retry=retry(),
            )
        return int(blob.generation)

    def upload(self, path: str | os.PathLike[str]) -> None:
        """Writes the object with the contents of a local file."""
        with translated_errors(self):
            self._blob().upload_from_filename(os.fspath(path), retry=retry())

    def download(self, path: str | os.PathLike[str]) -> None:
        """Copies the object to a local file."""
        with translated_errors(self):
            self._blob().download_to_filename(os.fspath(path), retry=retry())

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
            with translated_errors(self):
                self._blob().compose(
                    [self._blob(), tail._blob()],
                    if_generation_match=generation,
                    retry=retry(),
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
            with translated_errors(self):
                self._blob().delete(if_generation_match=only, retry=retry())
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _blob(self) -> Any:
        return client(self).bucket(self.bucket).blob(self.key)

    def _listed(self, **options: Any) -> Iterator[Any]:
        prefix = f"{self.key}/" if self.key else ""
        try:
            with translated_errors(self):
                yield from client(self).list_blobs(
                    self.bucket, prefix=prefix, retry=retry(), **options
                )
        except FileNotFoundError as error:
            raise BucketError(
                self,
                f"there is no bucket {self.bucket}; correct its name, or create it "
                f"with `gcloud storage buckets create {SCHEME}{self.bucket}`",
            ) from error


def parse(text: str) -> BucketPath:
    """Makes a path from `gs://BUCKET/...`.

    Raises:
      ValueError: the name of the bucket is missing, or the libraries are.
    """
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise ValueError(f"{text} names no bucket; expected gs://BUCKET/PATH")
    configure(text)
    return BucketPath(bucket, "/".join(part for part in key.split("/") if part))
