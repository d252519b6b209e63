"""JAX's CUDA plugin on machines without a GPU, where only its compiler is of use.

The plugin comes with the extras [cuda-aot], [cuda12] and [cuda13]. JAX starts every
plugin that is installed. Without NVIDIA's driver, that of CUDA would take memory and
print errors in each process.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator

NAMES = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")


def hide_without_driver() -> None:
    """Hides the plugin from JAX if NVIDIA's driver is missing.

    Call it before JAX is asked for its devices for the first time.
    """
    name = _installed()
    if name is None or name in sys.modules:
        return
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        hidden = types.ModuleType(name)
        hidden.initialize = lambda: None  # type: ignore[attr-defined]
        sys.modules[name] = hidden


def load_compiler() -> bool:
    """Registers the plugin, so that JAX can compile for GPUs that are not here.

    Returns:
      False if the plugin is not installed.
    """
    name = _installed()
    if name is None:
        return False
    import jax

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax.devices()  # JAX starts the plugins that are not hidden
    if sys.modules[name].__spec__ is None:
        del sys.modules[name]
        os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
        with _discarding_stderr():  # each library reports that it found no driver
            importlib.import_module(name).initialize()
    return True


def _installed() -> str | None:
    """The name of the installed plugin's module, or None."""
    for name in NAMES:
        with contextlib.suppress(ModuleNotFoundError, ValueError):
            if name in sys.modules or importlib.util.find_spec(name):
                return name
    return None


@contextlib.contextmanager
def _discarding_stderr() -> Iterator[None]:
    """Discards what C++ code writes to standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
