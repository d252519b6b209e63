"""A local folder whose files appear in a bucket, for programs that append to files.

Objects in a bucket cannot grow. The metrics and TensorFlow's events therefore go to a
local folder first, and `Staging.upload` adds what is new to the objects. A local
directory needs no staging: there the files are written in place.
"""

import tempfile
import time
from pathlib import Path

from srgan_jax.paths import AnyPath

# The run waits for an upload of several requests. A bucket accepts one write per object
# and second.
SECONDS_BETWEEN_UPLOADS = 30.0


class Staging:
    """The folder to write in instead of `directory`.

    Attributes:
      folder: `directory` itself, or a temporary folder if it is in a bucket.
    """

    def __init__(self, directory: AnyPath) -> None:
        self._bucket = None if isinstance(directory, Path) else directory
        self._uploaded: dict[Path, int] = {}  # bytes of each file
        self._last = time.monotonic()
        if isinstance(directory, Path):
            self.folder = directory
        else:
            self._temporary = tempfile.TemporaryDirectory()
            self.folder = Path(self._temporary.name)

    def close(self) -> None:
        """Deletes the temporary folder."""
        if self._bucket is not None:
            self._temporary.cleanup()

    @property
    def in_bucket(self) -> bool:
        return self._bucket is not None

    @property
    def is_due(self) -> bool:
        """True if some time has passed since the last upload."""
        return time.monotonic() - self._last >= SECONDS_BETWEEN_UPLOADS

    def fetch(self, name: str) -> None:
        """Copies a file of the bucket, if it exists, to the folder."""
        if self._bucket is not None and (self._bucket / name).is_file():
            (self._bucket / name).download(self.folder / name)

    def upload(self) -> None:
        """Makes the files in the bucket equal to those in the folder.

        Files that were uploaded before must only have grown since.

        Raises:
          OSError: the bucket cannot be used.
        """
        if self._bucket is None:
            return
        for file in sorted(self.folder.rglob("*")):
            if file.is_dir():
                continue
            done = self._uploaded.get(file, 0)
            with file.open("rb") as opened:
                opened.seek(done)
                new = opened.read()
            place = self._bucket / file.relative_to(self.folder).as_posix()
            if file not in self._uploaded:
                place.write_bytes(new)
            elif new:
                place.append(new, done)
            self._uploaded[file] = done + len(new)
        self._last = time.monotonic()
