"""`srgan-jax demo`: a web page that upscales images.

Uploads and results lie in Gradio's upload folder until their page is closed. Nothing is
sent to another machine. A hosted space imports `page`.
"""

import contextlib
import math
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from srgan_jax.cli.errors import clean_termination, usage_errors
from srgan_jax.console import notes

if TYPE_CHECKING:
    import gradio

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def demo(
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Generator to offer. Repeatable. The default is the whole catalog.",
        ),
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(help="Refuse images with more megapixels.")
    ] = 4.0,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. The default serves this machine only."
        ),
    ] = LOOPBACK[0],
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port to listen on. The default is a free one."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Forbid downloads of weights.")
    ] = False,
) -> None:
    """Serve a web page that upscales images. They do not leave this machine."""
    with usage_errors(), clean_termination(), _upload_folder():
        _check_address(host, port)
        _reach_without_proxy(host)
        served = page(weights, max_megapixels=max_megapixels, offline=offline)
        if host not in LOOPBACK:
            notes.print(
                f"warning: with --host {host} everyone who can reach this machine can "
                "use the page; there is no password"
            )
        _, url, _ = served.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            max_file_size=int(2**24 + 8e6 * max_megapixels),  # RGBA of 16 bits
            share=False,
            ssr_mode=False,
            quiet=True,
            footer_links=[],
            prevent_thread_lock=True,
        )
        notes.print(f"the page is at {url} until you press Ctrl-C")
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(served):
            while True:
                time.sleep(3600)


def page(
    weights: Sequence[str] | None = None,
    *,
    max_megapixels: float = 4.0,
    offline: bool = False,
) -> "gradio.Blocks":
    """Builds the page.

    Args:
      weights: names or files of the generators to offer; None for the whole catalog.
      max_megapixels: refuse images with more megapixels.
      offline: forbid downloads of weights.

    Raises:
      ValueError: Gradio is not installed, `max_megapixels` is not positive, or one of
        the given generators does not exist.
    """
    if not 0 < max_megapixels < math.inf:
        raise ValueError(
            f"--max-megapixels is {max_megapixels:g}; expected a positive number"
        )
    names, default = _generators(weights, offline)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        from srgan_jax.cli import demo_page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ValueError(
            'the page needs Gradio: pip install "srgan-jax[demo]"'
        ) from None
    return demo_page.build(names, default, max_megapixels, offline)


def _generators(weights: Sequence[str] | None, offline: bool) -> tuple[list[str], str]:
    """The generators that the page offers, and the one that is selected."""
    from srgan_jax.weights import store
    from srgan_jax.weights.catalog import CATALOG, DEFAULT_GENERATOR

    if weights:
        for name in weights:  # so that a wrong name is reported before the page opens
            store.load_generator(name, offline=offline)
        return list(weights), weights[0]
    names = [name for name, entry in CATALOG.items() if entry.kind == "generator"]
    return names, DEFAULT_GENERATOR


def _check_address(host: str, port: int | None) -> None:
    """Checks that this machine can listen on an address; Gradio would try for minutes.

    Raises:
      ValueError: it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port or 0))
    except OSError as error:
        given = f"--host {host}" + (f" and --port {port}" if port else "")
        raise ValueError(
            f"cannot listen with {given} ({error.strerror}); choose a free port and "
            "an address of this machine"
        ) from None


def _reach_without_proxy(host: str) -> None:
    """Lets Gradio, which calls its own page, reach it without the user's proxy."""
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    direct = [*filter(None, [others]), *LOOPBACK, host]
    os.environ["no_proxy"] = ",".join(direct)


@contextlib.contextmanager
def _upload_folder() -> Iterator[None]:
    """Gives Gradio an upload folder, and removes it at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        yield
