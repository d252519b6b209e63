"""`srgan-jax upscale`, as people call it and as fate feeds it."""

import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import tiny
from PIL import Image
from typer.testing import CliRunner, Result

from srgan_jax.cli.main import app
from srgan_jax.images import encode as writing
from srgan_jax.images import picture as images
from srgan_jax.images.decode import ImageError
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


def test_one_picture_to_a_file(weights: Path, tmp_path: Path) -> None:
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
    # Again, with what was written lying below the input folder: not taken as input.
    again = upscale(weights, tmp_path / "in", "-o", out, "--format", "webp")
    assert again.exit_code == 0, again.output
    assert (out / "deep/b.webp").exists()
    assert not (out / "out").exists()


def test_output_folder_above_the_input_folder(weights: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/a.png")
    assert upscale(weights, tmp_path / "in", "-o", tmp_path).exit_code == 0
    assert (tmp_path / "a.png").exists()
    same = upscale(weights, tmp_path / "in", "-o", tmp_path / "in", "--overwrite")
    assert same.exit_code == 1
    assert "is an input" in same.stderr


def test_existing_outputs_need_overwrite(weights: Path, tmp_path: Path) -> None:
    source, target = save(tmp_path / "a.png"), tmp_path / "b.png"
    target.write_bytes(b"precious")
    refused = upscale(weights, source, "-o", target)
    assert refused.exit_code == 1
    assert f"{target}: exists; --overwrite replaces it" in refused.stderr
    assert target.read_bytes() == b"precious"
    assert upscale(weights, source, "-o", target, "--overwrite").exit_code == 0
    assert images.read(target).pixels.shape == (24, 28, 3)


def test_inputs_are_never_written(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    for out in (source, tmp_path, tmp_path / "link.png"):
        result = upscale(weights, source, "-o", out, "--overwrite")
        assert result.exit_code == 1
        assert "is an input" in result.stderr
    assert source.read_bytes() == before


def test_one_output_for_two_inputs_is_refused(weights: Path, tmp_path: Path) -> None:
    first, second = save(tmp_path / "x/a.png"), save(tmp_path / "y/a.bmp")
    out = tmp_path / "out"
    result = upscale(weights, first, second, "-o", out, "--format", "png")
    assert result.exit_code == 1
    assert f"{second}: its output {out / 'a.png'} is that of {first} too" in (
        result.stderr
    )
    assert (out / "a.png").exists()


def test_failures_stop_no_other(weights: Path, tmp_path: Path) -> None:
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


def test_outputs_that_cannot_be_written(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    result = upscale(weights, source, "-o", tmp_path / "file/out/b.png")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr


def test_wrong_usage(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    unknown = upscale(Path("no-such-name"), source, "-o", tmp_path / "out")
    assert unknown.exit_code == 2
    assert unknown.stderr.startswith("error: ")
    assert upscale(weights, source).exit_code == 2  # no --out
    assert upscale(weights, source, "-o", "x", "--format", "gif").exit_code == 2


def test_pixel_limit(weights: Path, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png", 12, 14)
    refused = upscale(weights, source, "-o", tmp_path / "o", "--max-pixels", 167)
    assert refused.exit_code == 1
    assert "14x12 pixels, more than the 167 allowed" in refused.stderr
    allowed = upscale(weights, source, "-o", tmp_path / "o", "--max-pixels", 168)
    assert allowed.exit_code == 0


def seeds() -> dict[str, bytes]:
    """A small file of each kind that is read."""
    bands = RNG.integers(0, 256, (9, 11, 4), np.uint8)
    wide = RNG.integers(0, 65_536, (9, 11, 3), np.uint16)
    rgb, rgba = Image.fromarray(bands[..., :3]), Image.fromarray(bands)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, wide, photometric="rgb")
    tags = Image.Exif()
    tags[271] = "Maker"
    kinds = {"jpg": "JPEG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "png": "PNG"}
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


def test_mutated_files_give_pictures_or_one_line(weights: Path, tmp_path: Path) -> None:
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
        images.read(path)


def test_a_disk_that_fills(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it."""
    picture = images.Picture(RNG.integers(0, 256, (64, 64, 3), np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        for suffix in images.FORMATS:
            with pytest.raises(ImageError, match=rf"a{suffix}: "):
                writing.write(tmp_path / f"a{suffix}", picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.end_to_end
def test_a_process_of_its_own_never_imports_tensorflow(
    weights: Path, tmp_path: Path
) -> None:
    source = save(tmp_path / "a.png")
    arguments = ["upscale", str(source), "-o", str(tmp_path / "b.png")]
    script = (
        "import sys; from srgan_jax.cli import app\n"
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
        [sys.executable, "-c", "from srgan_jax.cli import app; app()", "--help"],
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "upscale" in run.stdout, run.stderr
    # Time of the processor, since the machine may be busy with other tests.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
