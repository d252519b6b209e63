"""The page of `srgan-jax demo`, built with Gradio."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

import srgan_jax
from srgan_jax.cli import demo_files
from srgan_jax.inference.upscaler import Upscaler

# Gradio passes a Request or a Progress to handlers whose parameters have these types.


class Handlers:
    """What the page does on events; most return the values that `_shown` lists."""

    def __init__(self, uploads: Path, max_megapixels: float, offline: bool) -> None:
        self._sessions = demo_files.Sessions(uploads)
        self._max_megapixels = max_megapixels
        self._load = functools.lru_cache(maxsize=2)(
            functools.partial(srgan_jax.load, offline=offline)
        )

    def note_upload(self, file: str, request: gr.Request) -> None:
        self._sessions.add(_session(request), Path(file))

    def begin(self, request: gr.Request) -> list:
        self._sessions.begin(_session(request))
        return _shown("Working on it ...", running=True)

    def upscale(
        self,
        file: str | None,
        name: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> list:
        session = _session(request)

        def report(done: int, total: int) -> None:
            self._sessions.check(session, run)
            progress((done, total), desc="Upscaling", unit="tiles")

        try:
            run = self._sessions.run(session)
            if file is None:
                return _shown("Choose a picture first.")
            if not Path(file).exists():  # the page had lost its connection
                return _shown("The picture was deleted. Choose it again.")
            progress(0, desc="Loading the generator")
            upscaler: Upscaler = self._load(name)
            self._sessions.check(session, run)
            progress(0, desc="Upscaling")  # the first tile says how many there are
            result = demo_files.upscale(
                Path(file),
                self._sessions.folder(session),
                upscaler,
                max_megapixels=self._max_megapixels,
                progress=report,
            )
            return _shown(result)
        except demo_files.Cancelled:
            return _shown("Cancelled.")
        except (OSError, ValueError) as error:
            return _shown(f"{error}.")
        except (MemoryError, RuntimeError):  # raised by JAX, usually for lack of memory
            return _shown("There is not enough memory for it. Try a smaller picture.")

    def cancel(self, request: gr.Request) -> list:
        self._sessions.cancel(_session(request))
        return _shown("Cancelled.")

    def close(self, request: gr.Request) -> None:
        self._sessions.close(_session(request))


def build(
    names: Sequence[str], default: str, max_megapixels: float, offline: bool
) -> gr.Blocks:
    """Builds the page; see `demo.page`."""
    uploads = Path(gr.utils.get_upload_folder())
    examples = demo_files.write_examples(uploads / "examples")
    handlers = Handlers(uploads, max_megapixels, offline)
    with gr.Blocks(title="srgan_jax", analytics_enabled=False) as page:
        gr.Markdown(
            "# Make a small picture large\n"
            f"Choose a picture of up to {max_megapixels:g} megapixels. It becomes four "
            "times as wide and four times as high. The computer that serves this page "
            "does the work. It deletes the picture and the result when you close the "
            "page."
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=360):
                file = gr.File(
                    label="Your picture, or an example",
                    file_types=["image"],
                    height=140,
                )
                gallery = gr.Gallery(
                    examples,
                    label="Examples",
                    show_label=False,
                    columns=3,
                    height=128,
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                )
                name = gr.Dropdown(
                    list(names),
                    value=default,
                    label="Generator",
                    info="An SRGAN adds fine detail; an SRResNet stays smooth.",
                )
                start = gr.Button("Upscale", variant="primary")
                stop = gr.Button("Cancel", visible=False)
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(
                    label="Left: bicubic. Right: the generator.",
                    interactive=False,
                    max_height=640,
                    buttons=["fullscreen"],
                )
                text = gr.Markdown()
                with gr.Row():
                    png = gr.DownloadButton("Download PNG", visible=False)
                    jpeg = gr.DownloadButton("Download JPEG", visible=False)

        def choose(event: gr.SelectData) -> str:
            return str(examples[event.index])

        shown = [slider, text, png, jpeg, start, stop]
        file.upload(handlers.note_upload, file, queue=False)
        gallery.select(choose, None, file, queue=False)
        running = start.click(handlers.begin, None, shown, queue=False).then(
            handlers.upscale,
            [file, name],
            shown,
            concurrency_limit=1,
            show_progress_on=slider,
        )
        stop.click(handlers.cancel, None, shown, queue=False, cancels=[running])
        page.unload(handlers.close)
    return page


def _shown(result: demo_files.Result | str, running: bool = False) -> list[Any]:
    """Values of the slider, the text, both downloads and both buttons."""
    buttons = [gr.update(visible=not running), gr.update(visible=running)]
    if isinstance(result, str):
        hidden = gr.update(visible=False)
        return [None, result, hidden, hidden, *buttons]
    downloads = [gr.update(value=path, visible=True) for path in result.downloads]
    downloads += [gr.update(visible=False)] * (2 - len(downloads))
    return [(result.before, result.after), result.text, *downloads, *buttons]


def _session(request: gr.Request) -> str:
    return str(request.session_hash)
