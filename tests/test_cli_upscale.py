"""`srgan-jax upscale`: its options, its outputs and its errors."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import tiny
from PIL import ExifTags, Image
from typer.testing import CliRunner, Result

import srgan_jax
from srgan_jax.cli.main import app
from srgan_jax.images import decode, encode
from srgan_jax.images.formats import BY_SUFFIX
from srgan_jax.images.image import Image as DecodedImage
from srgan_jax.images.image import ImageError
from srgan_jax.inference import jobs
from srgan_jax.inference.upscaler import Upscaler
from srgan_jax.models.generator import Generator
from srgan_jax.weights import store

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator small enough for a test; x2."""
    import jax

    model = Generator(scale=2, blocks=1, channels=4)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 3)))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    store.save_generator(
        path, tiny.settings_of(model), jax.tree.map(np.asarray, variables)
    )
    return path


def upscale(weights: Path, *arguments: object) -> Result:
    command = ["upscale", "--weights", weights, "--tile", 16, *arguments]
    return CliRunner().invoke(app, list(map(str, command)))


def save(path: Path, height: int = 12, width: int = 14, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = RNG.integers(0, 256, (height, width, len(mode)), np.uint8)
    Image.fromarray(bands.squeeze(-1) if mode == "L" else bands).save(path)
    return path


def test_one_image_is_written_to_a_file(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.jpg")
    result = upscale(weights, source, "-o", tmp_path / "b.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (28, 24)
    assert result.stdout == ""


def test_folders_are_mirrored(weights: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/a.png")
    save(tmp_path / "in/deep/b.jpg", 1, 1)
    single = save(tmp_path / "c.bmp", 1, 50, "L")
    out = tmp_path / "in/out"
    result = upscale(weights, tmp_path / "in", single, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    written = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert written == ["a.png", "c.bmp", "deep/b.jpg"]
    report = json.loads(result.stdout)
    assert (report["scale"], report["failures"]) == (2, [])
    assert [(r["width"], r["height"]) for r in report["pictures"]] == [
        *((28, 24), (2, 2), (100, 2))
    ]
    # The outputs are below the input folder now, but are not inputs of a second run.
    again = upscale(weights, tmp_path / "in", "-o", out, "--format", "webp")
    assert again.exit_code == 0, again.output
    assert (out / "deep/b.webp").exists()
    assert not (out / "out").exists()


def test_the_output_folder_may_contain_the_input_folder(
    weights: Path, tmp_path: Path
) -> None:
    save(tmp_path / "in/a.png")
    assert upscale(weights, tmp_path / "in", "-o", tmp_path).exit_code == 0
    assert (tmp_path / "a.png").exists()
    same = upscale(weights, tmp_path / "in", "-o", tmp_path / "in", "--overwrite")
    assert same.exit_code == 1
    assert "is also an input" in same.stderr


def test_existing_outputs_need_overwrite(weights: Path, tmp_path: Path) -> None:
    source, target = save(tmp_path / "a.png"), tmp_path / "b.png"
    target.write_bytes(b"precious")
    refused = upscale(weights, source, "-o", target)
    assert refused.exit_code == 1
    assert f"{target}: exists; --overwrite replaces it" in refused.stderr
    assert target.read_bytes() == b"precious"
    assert upscale(weights, source, "-o", target, "--overwrite").exit_code == 0
    assert decode.read(target).pixels.shape == (24, 28, 3)


def test_inputs_are_never_written(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    for out in (source, tmp_path, tmp_path / "link.png"):
        result = upscale(weights, source, "-o", out, "--overwrite")
        assert result.exit_code == 1
        assert "is also an input" in result.stderr
    assert source.read_bytes() == before


def test_one_output_for_two_inputs_is_refused(weights: Path, tmp_path: Path) -> None:
    first, second = save(tmp_path / "x/a.png"), save(tmp_path / "y/a.bmp")
    out = tmp_path / "out"
    result = upscale(weights, first, second, "-o", out, "--format", "png")
    assert result.exit_code == 1
    assert f"{second}: its output {out / 'a.png'} is also that of {first}" in (
        result.stderr
    )
    assert (out / "a.png").exists()


def test_a_failure_does_not_stop_other_images(weights: Path, tmp_path: Path) -> None:
    good = save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(good.read_bytes()[:60])
    clear = save(tmp_path / "clear.png", mode="RGBA")
    (tmp_path / "empty").mkdir()
    missing = tmp_path / "missing.png"
    given = [tmp_path / "bad.png", missing, tmp_path / "empty", clear, good]
    result = upscale(weights, *given, "-o", tmp_path / "out", "--format", "jpg")
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("left out")]
    assert len(lines) == 4
    for name in ("bad.png", "missing.png", "empty", "clear.jpg"):
        assert sum(name in line for line in lines) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.jpg"]


def test_an_output_that_cannot_be_written_is_reported(
    weights: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    result = upscale(weights, source, "-o", tmp_path / "file/out/b.png")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr


def test_wrong_usage_has_status_2(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    unknown = upscale(Path("no-such-name"), source, "-o", tmp_path / "out")
    assert unknown.exit_code == 2
    assert unknown.stderr.startswith("error: ")
    assert upscale(weights, source).exit_code == 2  # without --out
    assert upscale(weights, source, "-o", "x", "--format", "gif").exit_code == 2


def test_images_above_the_pixel_limit_are_refused(
    weights: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "a.png", 12, 14)
    refused = upscale(weights, source, "-o", tmp_path / "o", "--max-pixels", 167)
    assert refused.exit_code == 1
    assert "14x12 pixels, more than the 167 allowed" in refused.stderr
    allowed = upscale(weights, source, "-o", tmp_path / "o", "--max-pixels", 168)
    assert allowed.exit_code == 0


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--scale", 1.5], (21, 18)),
        (["--width", 21], (21, 18)),
        (["--height", 6], (7, 6)),
        (["--width", 5, "--height", 20], (5, 20)),
        (["--max-side", 14], (14, 12)),
        (["--max-side", 99], (28, 24)),
        (["--scale", 2], (28, 24)),
    ],
)
def test_each_size_option_gives_its_size(
    weights: Path, tmp_path: Path, options: list, size: tuple
) -> None:
    source, target = save(tmp_path / "a.png"), tmp_path / "b.png"
    result = upscale(weights, source, "-o", target, *options, "--json")
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)["pictures"]
    with Image.open(target) as image:
        assert image.size == (record["width"], record["height"]) == size


def test_sizes_above_the_networks_are_refused(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    result = upscale(weights, source, "-o", tmp_path / "o", "--width", 29)
    assert result.exit_code == 1
    assert "above the network's largest, 28x24 (x2)" in result.stderr
    result = upscale(weights, source, "-o", tmp_path / "o", "--scale", 2.5)
    assert "35x30 pixels are above the network's largest" in result.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "x.jpg", "--format", "webp"],
        ["-o", "x.jpg", "--lossless"],
        ["-o", "x.png", "--quality", "50"],
        ["-o", "x.webp", "--quality", "50", "--lossless"],
        ["-o", "x.webp", "--suffix", "-x4"],
        ["-o", "out", "--suffix", "a/b"],
        ["-o", "out", "--format", "png", "--quality", "50"],
        ["-o", "out", "--overwrite", "--skip-existing"],
        ["-o", "out", "--scale", "2", "--width", "3"],
        ["-o", "out", "--scale", "2", "--max-side", "3"],
        ["-o", "out", "--height", "2", "--max-side", "3"],
        ["-o", "out", "--scale", "0"],
        ["-o", "out", "--scale", "nan"],
        ["-o", "out", "--quality", "101"],
        ["-o", "-"],
        ["-o", "-", "--format", "png", "--json"],
        ["-o", "out", "--quality", "50"],
        ["-o", ""],
        ["-o", "x.gif"],
        ["-o", "in/notes.txt"],
        ["-o", "out", ""],
        ["-o", "two.png", "SECOND"],
        ["-o", "two.png", "FOLDER"],
        ["-o", "out", "-"],
    ],
)
def test_contradictory_options_are_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source, second = save(tmp_path / "a.png"), save(tmp_path / "in/b.png")
    (tmp_path / "in/notes.txt").touch()
    names = {"SECOND": str(second), "FOLDER": str(second.parent)}
    options = [names.get(option, option) for option in options]
    inputs = [] if names["FOLDER"] in options else [source]
    result = upscale(weights, *inputs, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    if "101" not in options:  # typer refuses this one
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "in"}


def test_a_new_folder_may_be_named_like_an_image(weights: Path, tmp_path: Path) -> None:
    first, second = save(tmp_path / "a.png"), save(tmp_path / "b.png")
    result = upscale(weights, first, second, "-o", f"{tmp_path / 'two.png'}/")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "two.png/a.png").exists()
    result = upscale(weights, tmp_path / "two.png", "-o", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again/b.png").exists()


def test_an_image_passes_from_standard_input_to_output(
    weights: Path, tmp_path: Path
) -> None:
    data = save(tmp_path / "a.png").read_bytes()
    command = ["upscale", "--weights", str(weights), "--tile", "16", "-", "-o"]
    piped = [*command, "-", "--format", "webp", "--lossless"]
    result = CliRunner().invoke(app, piped, input=data)
    assert result.exit_code == 0, result.stderr
    with Image.open(io.BytesIO(result.stdout_bytes)) as image:
        assert (image.format, image.size) == ("WEBP", (28, 24))
    result = CliRunner().invoke(app, [*command, str(tmp_path / "b.png")], input=data)
    assert result.exit_code == 0, result.stderr
    assert decode.read(tmp_path / "b.png").pixels.shape == (24, 28, 3)
    result = CliRunner().invoke(app, piped, input=b"no image")
    assert result.exit_code == 1
    assert result.stderr.startswith("left out: standard input: not an image")
    assert result.stdout_bytes == b""


def test_skip_existing_continues_an_interrupted_folder(
    weights: Path, tmp_path: Path
) -> None:
    for name in ("in/a.png", "in/b.png"):
        save(tmp_path / name)
    out = tmp_path / "out"
    assert upscale(weights, tmp_path / "in/a.png", "-o", out).exit_code == 0
    before = (out / "a.png").stat().st_mtime_ns
    result = upscale(weights, tmp_path / "in", "-o", out, "--skip-existing", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["skipped"] == [str(out / "a.png")]
    assert [record["output"] for record in report["pictures"]] == [str(out / "b.png")]
    assert (out / "a.png").stat().st_mtime_ns == before
    again = upscale(weights, tmp_path / "in", "-o", out, "--skip-existing")
    assert again.exit_code == 0
    assert "skipped 2 outputs that exist" in again.stderr


def test_a_suffix_allows_outputs_beside_inputs(weights: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.v2.jpg"):
        save(tmp_path / name)
    names = {"a.png", "b.v2.jpg", "a-x2.png", "b.v2-x2.jpg"}
    for _ in range(2):
        result = upscale(
            weights, tmp_path, "-o", tmp_path, "--suffix=-x2", "--skip-existing"
        )
        assert result.exit_code == 0, result.output
        assert {path.name for path in tmp_path.iterdir()} == names


def test_dots_in_names_are_kept(weights: Path, tmp_path: Path) -> None:
    for name, kind in (("IMG.2024.01", "PNG"), ("IMG.2024.02", "JPEG")):
        Image.new("RGB", (4, 4)).save(tmp_path / name, kind)
    inputs = [tmp_path / "IMG.2024.01", tmp_path / "IMG.2024.02"]
    assert upscale(weights, *inputs, "-o", tmp_path / "o").exit_code == 0
    result = upscale(weights, *inputs, "-o", tmp_path / "o", "--format", "avif")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        *("IMG.2024.01.png", "IMG.2024.02.jpg"),
        *("IMG.2024.01.avif", "IMG.2024.02.avif"),
    }


def test_inputs_are_checked_before_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("srgan_jax.load", load)
    (tmp_path / "text.png").write_text("no image")
    save(tmp_path / "large.png", 100, 100)
    given = [tmp_path / "missing.png", tmp_path / "text.png", tmp_path / "large.png"]
    result = upscale(
        Path("krasserm-srgan"), *given, "-o", tmp_path / "o", "--max-pixels", 9999
    )
    assert result.exit_code == 1
    assert result.stderr.count("left out: ") == 3
    assert "3 of 3 could not be upscaled" in result.stderr


def test_names_are_printed_literally(weights: Path, tmp_path: Path) -> None:
    names = ["[red]b:camera:.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        save(tmp_path / "in" / name)
    result = upscale(weights, tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "[red]b:camera:.png: 28x24 in" in result.stderr
    assert "caf\\udce9.png: 28x24 in" in result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)


def test_padding_reaches_the_upscaler(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    results = {}
    for padding in ("symmetric", "zero"):
        target = tmp_path / f"{padding}.png"
        result = upscale(weights, source, "-o", target, "--padding", padding)
        assert result.exit_code == 0, result.output
        ours = srgan_jax.load(weights, tile=16, padding=padding)
        results[padding] = decode.read(target).pixels
        assert np.array_equal(results[padding], ours(decode.read(source).pixels))
    assert not np.array_equal(*results.values())
    assert upscale(weights, source, "-o", tmp_path, "--padding", "edge").exit_code == 2


def test_small_images_of_equal_size_go_through_together(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among others, and with one that cannot be written."""
    sizes = {"a": (12, 14), "b": (9, 9), "c": (12, 14), "d": (12, 14), "e": (40, 40)}
    for name, size in sizes.items():
        save(tmp_path / f"in/{name}.png", *size)
    save(tmp_path / "in/clear.png", 12, 14, "RGBA")
    save(tmp_path / "in/grey.png", 12, 14, "L")
    (tmp_path / "out/c.png").mkdir(parents=True)
    shapes = []
    ours = Upscaler.__call__

    def noted(self: Upscaler, image: np.ndarray, *others: object) -> np.ndarray:
        shapes.append(image.shape)
        return ours(self, image, *others)

    monkeypatch.setattr(Upscaler, "__call__", noted)
    monkeypatch.setattr(jobs, "SMALL", 12 * 14)
    monkeypatch.setattr(jobs, "TOGETHER", 2 * 12 * 14)
    command = [tmp_path / "in", "-o", tmp_path / "out", "--overwrite", "--json"]
    result = upscale(weights, *command)
    assert result.exit_code == 1
    assert sorted(shapes, key=str) == [
        *((12, 14), (12, 14, 3), (12, 14, 3), (2, 12, 14, 3), (40, 40, 3), (9, 9, 3)),
    ]
    names = [Path(r["output"]).stem for r in json.loads(result.stdout)["pictures"]]
    assert names == ["a", "b", "clear", "d", "e", "grey"]
    upscaler = srgan_jax.load(weights, tile=16)
    for name in sizes.keys() - {"c"}:
        expected = ours(upscaler, decode.read(tmp_path / f"in/{name}.png").pixels)
        written = decode.read(tmp_path / f"out/{name}.png").pixels
        assert np.abs(written.astype(int) - expected).max() <= 1


def test_images_that_wait_are_bounded(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(6):
        save(tmp_path / f"in/{i}.png", 4 + i % 3, 5)
    waiting = []
    ours = jobs._finish

    def noted(group: list, *others: object) -> object:
        waiting.append(len(group))
        return ours(group, *others)

    monkeypatch.setattr(jobs, "_finish", noted)
    monkeypatch.setattr(jobs, "WAITING", 4)
    result = upscale(weights, tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert waiting == [2, 2, 2]


def test_a_link_to_a_parent_folder_gives_no_copies(
    weights: Path, tmp_path: Path
) -> None:
    save(tmp_path / "in/sub/a.png")
    (tmp_path / "in/sub/up").symlink_to("..")
    result = upscale(weights, tmp_path / "in", "-o", tmp_path / "out", "--json")
    assert len(json.loads(result.stdout)["pictures"]) == 1


def test_lost_metadata_is_noted_once_per_image(weights: Path, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: b"m" * 70_000}
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", exif=tags)
    result = upscale(weights, tmp_path / "a.png", "-o", tmp_path / "b.jpg")
    assert result.exit_code == 0, result.output
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: {tmp_path / 'a.png'}: left out, as a JPEG holds 64 kB of each kind: "
        "MakerNote"
    ]


def test_failing_devices_and_long_names_do_not_stop_other_images(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b" * 251 + ".png", "c.png"):
        save(tmp_path / "in" / name)
    ours = jobs.upscale

    def upscale_or_fail(image: DecodedImage, *others: object) -> DecodedImage:
        if np.array_equal(image.pixels, first):
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return ours(image, *others)

    first = decode.read(tmp_path / "in/a.png").pixels
    monkeypatch.setattr(jobs, "upscale", upscale_or_fail)
    result = upscale(weights, tmp_path / "in", "-o", tmp_path / "o", "--suffix=-x2")
    assert result.exit_code == 1
    assert "a.png: the device could not upscale it; a smaller --tile" in result.stderr
    assert ".png: File name too long" in result.stderr
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["c-x2.png"]


@pytest.mark.end_to_end
def test_a_terminated_process_leaves_no_unfinished_file(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from srgan_jax.cli.errors import clean_termination\n"
        "from srgan_jax.paths import replacing\n"
        "with clean_termination(), replacing(Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_bytes(b'half'); print('begun', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


def seeds() -> dict[str, bytes]:
    """Returns a small file of each format that is read."""
    bands = RNG.integers(0, 256, (9, 11, 4), np.uint8)
    wide = RNG.integers(0, 65_536, (9, 11, 3), np.uint16)
    rgb, rgba = Image.fromarray(bands[..., :3]), Image.fromarray(bands)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, wide, photometric="rgb")
    tags = Image.Exif()
    tags[271] = "Maker"
    kinds = {"jpg": "JPEG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "png": "PNG"}
    kinds["avif"] = "AVIF"
    files = {}
    for suffix, kind in kinds.items():
        file = io.BytesIO()
        (rgba if suffix in ("png", "webp") else rgb).save(file, kind, exif=tags)
        files[f"8.{suffix}"] = file.getvalue()
    palette = io.BytesIO()
    rgb.quantize(8).save(palette, "PNG")
    files["palette.png"] = palette.getvalue()
    files["16.tif"] = tiff.getvalue()
    files["16.png"] = cv2.imencode(".png", wide)[1].tobytes()
    return files


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    kind, at = rng.integers(4), int(rng.integers(len(data)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + rng.bytes(8) + data[at:]
    if kind == 2:
        return data[:at] + data[at + int(rng.integers(1, 9)) :]
    flipped = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 6)):
        flipped[place] = rng.integers(256)
    return bytes(flipped)


def test_mutated_files_give_an_image_or_one_line(weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, data in seeds().items():
        (folder / f"whole-{name}").write_bytes(data)
        for i in range(65):
            (folder / f"{i}-{name}").write_bytes(mutated(data, rng))
    names = {path.name for path in folder.iterdir()}
    assert len(names) > 500
    result = upscale(weights, folder, "-o", out, "--max-pixels", 5000)
    assert result.exit_code == 1
    written = {path.name for path in out.iterdir()}
    left_out = [line for line in result.stderr.splitlines() if "left out: " in line]
    refused = {line.split(": ")[1].rpartition("/")[2] for line in left_out}
    assert written | refused == names
    assert not written & refused
    assert len(left_out) == len(refused)
    assert {n for n in names if n.startswith("whole")} <= written
    assert len(refused) > 100
    for path in out.iterdir():
        decode.read(path)


def test_a_full_disk_leaves_no_unfinished_file(tmp_path: Path) -> None:
    """A limit on the size of files simulates the full disk."""
    picture = DecodedImage(RNG.integers(0, 256, (64, 64, 3), np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        for suffix in BY_SUFFIX:
            with pytest.raises(ImageError, match=rf"a{suffix}: "):
                encode.write(tmp_path / f"a{suffix}", picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.end_to_end
def test_upscaling_never_imports_tensorflow(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    arguments = ["upscale", str(source), "-o", str(tmp_path / "b.png")]
    script = (
        "import sys; from srgan_jax.cli.main import app\n"
        f"app({[*arguments, '--weights', str(weights)]}, standalone_mode=False)\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    environment = os.environ | {"SRGAN_JAX_CACHE": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "b.png").exists()
    assert list((tmp_path / "cache").rglob("*upscale*")), "no compiled program kept"


@pytest.mark.end_to_end
def test_help_answers_at_once() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-c", "from srgan_jax.cli.main import app; app()", "--help"],
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "upscale" in run.stdout, run.stderr
    # This is CPU time, since the machine may be busy with other tests.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
