"""The page of `srgan-jax demo`, operated in a real browser, and the files behind it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import image_files
import jax
import numpy as np
import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner

import srgan_jax
from srgan_jax.cli import demo, demo_files
from srgan_jax.cli.main import app
from srgan_jax.images import decode
from srgan_jax.images.image import Image as DecodedImage
from srgan_jax.inference import tiles
from srgan_jax.models.generator import Generator
from srgan_jax.weights import store

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# Runs the command, and lists the addresses that the process connects to. An image named
# slow.png takes longer than any test waits, unless its run is cancelled.
SERVE = """import signal, sys, time

# A command that a script starts in the background would ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = address[0] if isinstance(address, tuple) else address
        print("contacted", host, flush=True)

sys.addaudithook(note)
from srgan_jax.cli import demo_files
from srgan_jax.cli.main import app
upscale = demo_files.upscale

def upscale_slowly(file, folder, upscaler, max_megapixels, progress):
    if file.name == "slow.png":
        try:
            for done in range(900):
                time.sleep(0.5)
                progress(done, 900)
        except demo_files.Cancelled:
            print("slow.png was cancelled", flush=True)
            raise
    return upscale(file, folder, upscaler, max_megapixels, progress)

demo_files.upscale = upscale_slowly
app()
"""
pytestmark = pytest.mark.xdist_group("demo")  # one server for all tests
FIND_BUTTON = """return [...document.querySelectorAll("button, a")].find(
  (b) => b.innerText.trim() === arguments[0] && b.offsetParent !== null)"""
ALL_IMAGES_LOADED = """return [...document.images].every(
  (image) => image.complete && image.naturalWidth > 0)"""
SECONDS = 120  # a busy machine may need this long for a few seconds of work


def wait_for(found: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + SECONDS
    while not (result := found()):
        assert time.monotonic() < end, f"no {what} within {SECONDS} s"
        time.sleep(0.1)
    return result


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Generator(blocks=1, channels=4)
    variables = tiny.initialise(model, 8)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    store.save_generator(path, tiny.settings_of(model), jax.device_get(variables))
    return path


class Server:
    """The command in a process of its own, and the folder of its temporary files."""

    def __init__(self, folder: Path, weights: Path, *options: str) -> None:
        self.temporary, self.log = folder / "tmp", folder / "log"
        self.temporary.mkdir()
        # A proxy that does not answer must not matter to a page on this machine.
        environment = os.environ | {
            "TMPDIR": str(self.temporary),
            "http_proxy": "http://127.0.0.1:9",
        }
        command = [*(sys.executable, "-c", SERVE, "demo"), "--weights", str(weights)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *options], env=environment, stdout=log, stderr=log
            )

    def url(self) -> str:
        """The address of the page, once the command has printed it."""

        def printed() -> re.Match | None:
            assert self.process.poll() is None, self.text()
            return re.search(r"page is at (\S+)", self.text())

        return wait_for(printed, "page")[1]

    def text(self) -> str:
        return self.log.read_text()

    def files(self) -> list[str]:
        """Names of the users' files; Gradio leaves empty ones behind."""
        found = (p for p in self.temporary.rglob("*") if p.is_file())
        users = (p for p in found if p.parent.name != "examples")
        return sorted(p.name for p in users if p.stat().st_size)

    def stop(self) -> None:
        """Stops the command as Ctrl-C does, or kills it if it does not stop."""
        try:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[Server]:
    if not (BROWSER and DRIVER):
        pytest.skip("there is no Chromium: apt-get install chromium chromium-driver")
    options = "--max-megapixels", "1"
    running = Server(tmp_path_factory.mktemp("server"), weights, *options)
    try:
        running.url()
        yield running
    finally:
        running.stop()
    assert running.process.returncode == 0
    assert not list(running.temporary.iterdir())
    assert "Traceback" not in running.text()
    contacted = set(re.findall(r"contacted (\S+)", running.text()))
    assert contacted <= {"127.0.0.1", "localhost", "::1"}


class Page:
    """One open page, in a browser of its own that closes when the block ends."""

    def __init__(self, url: str, downloads: Path, *arguments: str) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", *arguments):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        self.downloads = downloads
        preferences = {"download.default_directory": str(downloads)}
        options.add_experimental_option("prefs", preferences)
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.url = url

    def __enter__(self) -> "Page":
        try:
            self.driver.set_page_load_timeout(SECONDS)
            self.driver.get(self.url)
            wait_for(lambda: self.all("input[type=file]"), "file field")
        except BaseException:
            self.driver.quit()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def all(self, selector: str) -> list:
        return self.driver.find_elements("css selector", selector)

    def button(self, name: str) -> Any:
        """The visible button of this name, or None."""
        return self.driver.execute_script(FIND_BUTTON, name)

    def press(self, name: str) -> None:
        wait_for(lambda: self.button(name), name).click()

    def upload(self, file: Path) -> None:
        if clear := self.all("button[aria-label=Clear]"):
            clear[0].click()
        field = wait_for(lambda: self.all("input[type=file]"), "file field")[0]
        field.send_keys(str(file))
        # Gradio shows the two parts of a name in two elements.
        self.wait_for_text(f"{file.stem}\n{file.suffix}\n")

    def text(self) -> str:
        return self.driver.find_element("tag name", "body").text

    def wait_for_text(self, text: str) -> None:
        wait_for(lambda: text in self.text(), text)

    def download(self, name: str, file: str) -> Path:
        self.press(name)
        return wait_for(lambda: (p := self.downloads / file).exists() and p, file)

    def requests(self) -> set[str]:
        """The hosts that the page has asked for something."""
        messages = (
            json.loads(entry["message"])["message"]
            for entry in self.driver.get_log("performance")
        )
        urls = (
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        )
        return {m[1] for u in urls if (m := re.match(r"(?:https?|wss?)://([^/:]+)", u))}


@pytest.fixture
def page(server: Server, tmp_path: Path) -> Iterator[Page]:
    with Page(server.url(), tmp_path) as opened:
        yield opened
        assert opened.requests() == {"127.0.0.1"}


def command_line(file: Path, weights: Path, output: Path) -> np.ndarray:
    """Samples of what `srgan-jax upscale` makes of the same file."""
    command = [*(sys.executable, "-m", "srgan_jax", "upscale", file), "-o", output]
    command += ["--weights", weights]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return samples(output)


def samples(file: Path) -> np.ndarray:
    image = decode.read(file)
    parts = [image.pixels.reshape(*image.pixels.shape[:2], -1)]
    parts += [] if image.alpha is None else [image.alpha[..., None]]
    return np.concatenate(parts, axis=-1)


def test_downloads_equal_the_command_line(
    page: Page, server: Server, weights: Path, tmp_path: Path
) -> None:
    deep = tmp_path / "deep.png"
    deep.write_bytes(image_files.png_16(image_files.pixels(30, 40, 4, dtype="u2"), 6))
    page.upload(deep)
    page.press("Upscale")
    page.wait_for_text("160 x 120 pixels")
    assert "transparency" in page.text()  # the reason why there is no JPEG
    assert page.button("Download JPEG") is None
    found = samples(page.download("Download PNG", "deep-x4.png"))
    truth = command_line(deep, weights, tmp_path / "truth.png")
    assert truth.dtype == np.uint16
    assert truth.shape[-1] == 4
    np.testing.assert_array_equal(found, truth)

    photo = tmp_path / "photo.jpg"
    pixels = Image.fromarray(image_files.pixels(20, 50, 3))
    pixels.save(photo, exif=image_files.exif())
    page.upload(photo)
    page.press("Upscale")
    page.wait_for_text("200 x 80 pixels")
    found = samples(page.download("Download PNG", "photo-x4.png"))
    truth = command_line(photo, weights, tmp_path / "truth2.png")
    np.testing.assert_array_equal(found, truth)
    jpeg = page.download("Download JPEG", "photo-x4.jpg")
    command_line(photo, weights, tmp_path / "truth.jpg")
    assert jpeg.read_bytes() == (tmp_path / "truth.jpg").read_bytes()

    assert "photo-x4.png" in server.files()
    page.driver.get("about:blank")
    wait_for(lambda: not server.files(), f"deletion of {server.files()}")


def test_the_slider_of_an_example_moves(page: Page) -> None:
    from selenium.webdriver import ActionChains

    wait_for(lambda: page.all(".gallery-item button"), "examples")[2].click()
    page.wait_for_text("coffee")
    page.press("Upscale")
    page.wait_for_text("512 x 340 pixels")
    handle = wait_for(lambda: page.all(".inner"), "slider")[0]
    wait_for(lambda: page.driver.execute_script(ALL_IMAGES_LOADED), "both images")
    before = handle.rect["x"]
    ActionChains(page.driver).drag_and_drop_by_offset(handle, 40, 0).perform()
    wait_for(lambda: handle.rect["x"] > before + 20, "movement")


def test_each_refused_file_gets_one_sentence(page: Page, tmp_path: Path) -> None:
    frames = [Image.fromarray(image_files.pixels(8, 8, 3)) for _ in range(2)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (1100, 1000)).save(tmp_path / "large.png")
    for name, reason in {
        "text.png": "text.png: not an image",
        "moving.png": "moving.png: has 2 frames",
        "large.png": "large.png: has 1100x1000 pixels",
    }.items():
        page.upload(tmp_path / name)
        page.press("Upscale")
        page.wait_for_text(reason)
    assert "Traceback" not in page.text()


def test_a_second_page_waits_and_both_can_cancel(
    page: Page, server: Server, tmp_path: Path
) -> None:
    for name in ("slow.png", "quick.png"):
        Image.fromarray(image_files.pixels(16, 16, 3)).save(tmp_path / name)
    with Page(server.url(), tmp_path) as other:
        for opened in (page, other):
            opened.upload(tmp_path / "slow.png")
        page.press("Upscale")
        page.wait_for_text("/900 tiles")
        other.press("Upscale")
        other.wait_for_text("queue: 1/1")
        other.press("Cancel")
        other.wait_for_text("Cancelled.")
        assert "Cancelled." not in page.text()
        page.press("Cancel")
        page.wait_for_text("Cancelled.")
        wait_for(lambda: "slow.png was cancelled" in server.text(), "end of the run")
        other.upload(tmp_path / "quick.png")
        other.press("Upscale")
        other.wait_for_text("64 x 64 pixels")


def test_a_deleted_upload_is_asked_for_again(
    page: Page, server: Server, tmp_path: Path
) -> None:
    """A page that has lost its connection for a moment counts as closed."""
    Image.fromarray(image_files.pixels(16, 16, 3)).save(tmp_path / "lost.png")
    page.upload(tmp_path / "lost.png")
    for upload in server.temporary.rglob("lost.png"):
        upload.unlink()
    page.press("Upscale")
    page.wait_for_text("The picture was deleted. Choose it again.")


def test_a_run_stops_at_the_next_tile(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "BATCH_PIXELS", 1)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    calls = []

    def cancel(done: int, total: int) -> None:
        calls.append((done, total))
        raise demo_files.Cancelled

    upscaler = srgan_jax.load(weights, tile=10)
    with pytest.raises(demo_files.Cancelled):
        demo_files.upscale(
            *(tmp_path / "a.png", tmp_path, upscaler), max_megapixels=1, progress=cancel
        )
    assert [done for done, _ in calls] == [1]
    assert calls[0][1] > 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_run_ends_when_it_is_cancelled_or_replaced(tmp_path: Path) -> None:
    sessions = demo_files.Sessions(tmp_path)
    with pytest.raises(demo_files.Cancelled):
        sessions.run("a")
    sessions.begin("a")
    first = sessions.run("a")
    sessions.begin("b")
    sessions.check("a", first)
    sessions.begin("a")
    with pytest.raises(demo_files.Cancelled):
        sessions.check("a", first)
    sessions.check("b", sessions.run("b"))
    sessions.cancel("b")
    with pytest.raises(demo_files.Cancelled):
        sessions.run("b")


def test_an_upload_is_deleted_with_the_last_page_that_has_it(tmp_path: Path) -> None:
    sessions = demo_files.Sessions(tmp_path)
    upload = tmp_path / "upload.png"
    upload.touch()
    for session in "ab":
        sessions.add(session, upload)
    (sessions.folder("a") / "result.png").touch()
    sessions.close("a")
    assert list(tmp_path.iterdir()) == [upload]
    sessions.close("b")
    assert not upload.exists()


def test_previews_have_a_limited_size_and_keep_the_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo_files, "PREVIEW_PIXELS", 100)
    alpha = np.array([[0, 255], [0, 255]], np.uint8)
    image = DecodedImage(np.zeros((2, 2, 3), np.uint8), alpha)
    preview = demo_files.preview(image, 8, 40)
    assert preview.pixels.shape == (4, 22, 3)
    assert preview.alpha is None
    assert preview.pixels[0, 0].tolist() == [255, 255, 255]  # transparent: white
    assert preview.pixels[0, -1].tolist() == [0, 0, 0]


class Recorded:
    """Stands in for a page: records how it is served."""

    def launch(self, **options: Any) -> tuple[None, str, None]:
        self.options = options
        return None, "http://host:1/", None

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the variables that the command sets in its process."""
    for name in ("GRADIO_TEMP_DIR", "no_proxy"):
        monkeypatch.setenv(name, "")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("options", "name", "warns"),
    [
        ([], "127.0.0.1", False),
        (["--host=::1"], "[::1]", False),
        (["--host=0.0.0.0"], "0.0.0.0", True),
    ],
)
def test_only_another_host_than_loopback_warns(
    options: list[str], name: str, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    served = Recorded()
    monkeypatch.setattr(demo, "page", lambda *_, **__: served)
    monkeypatch.setattr(demo, "_check_address", lambda *_: None)  # IPv6 may be off
    monkeypatch.setattr(demo.time, "sleep", interrupt)
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 0
    assert served.closed
    assert served.options["server_name"] == name
    assert served.options["share"] is False
    assert ("no password" in result.stderr) == warns


@pytest.mark.usefixtures("environment")
def test_an_address_that_is_not_free_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["demo", f"--port={port}"])
    assert result.exit_code == 2
    assert f"with --host 127.0.0.1 and --port {port} (Address" in result.stderr
    result = CliRunner().invoke(app, ["demo", "--host=192.0.2.1"])  # of no machine
    assert result.exit_code == 2
    assert "with --host 192.0.2.1 (" in result.stderr
    assert "choose a free port and an address of this machine" in result.stderr


@pytest.mark.usefixtures("environment")
def test_the_page_is_reached_without_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    demo._reach_without_proxy("0.0.0.0")
    assert os.environ["no_proxy"] == "intranet,127.0.0.1,localhost,::1,0.0.0.0"


@pytest.mark.usefixtures("environment")
def test_an_unknown_generator_is_an_error_at_once() -> None:
    result = CliRunner().invoke(app, ["demo", "--weights=srgn"])
    assert result.exit_code == 2
    assert "did you mean srgan?" in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("megapixels", ["0", "-1", "nan", "inf"])
def test_a_limit_that_is_not_positive_is_refused(megapixels: str) -> None:
    result = CliRunner().invoke(app, ["demo", f"--max-megapixels={megapixels}"])
    assert result.exit_code == 2
    assert "expected a positive number" in result.stderr


@pytest.mark.usefixtures("environment")
def test_without_gradio_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "srgan_jax.cli.demo_page", raising=False)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 2
    assert 'pip install "srgan-jax[demo]"' in result.stderr
