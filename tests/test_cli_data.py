"""`srgan-jax data preview`: its sheet of examples and its errors."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tiny
from typer.testing import CliRunner, Result

from srgan_jax.cli.main import app
from srgan_jax.data import pipeline, sources
from srgan_jax.training.resolve import resolve_config

CONFIG = Path(__file__).parents[1] / "configs" / "srgan.py"


# ml_collections calls importlib's load_module.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "preview", *map(str, arguments)])


def test_the_preview_shows_the_first_twelve_examples(folder, tmp_path):
    out = tmp_path / "crops.png"
    options = ("--config.data.crop=32", "--config.data.flips=True")
    spec = f"folder:{folder}"
    done = run(
        f"--config={CONFIG}", f"--config.data.source={spec}", *options, "-o", out
    )
    assert done.exit_code == 0, done.stderr
    sheet = np.asarray(PIL.Image.open(out))
    assert sheet.shape == (4 * 40 - 8, 3 * 72 - 8, 3)
    source = sources.open_source(spec, minimum_size=32)
    batch = next(
        pipeline.training_batches(
            source, batch_size=12, crop=32, scale=4, seed=0, flips=True
        )
    )
    for index, (lr, hr) in enumerate(zip(batch["lr"], batch["hr"], strict=True)):
        row, column = divmod(index, 3)
        cell = sheet[40 * row :, 72 * column :][:32, :64]
        np.testing.assert_array_equal(cell[::4, :32:4], lr)
        np.testing.assert_array_equal(cell[:, 32:], hr)


def test_the_config_json_of_a_run_and_named_stages_are_taken_as_by_train_py(
    folder, tmp_path
):
    given = tiny.config(folder)
    saved = tmp_path / "config.json"
    saved.write_text(resolve_config(given).to_json())
    sheets = []
    for config in (saved, f"{Path(tiny.__file__)}:{folder}"):
        sheets.append(tmp_path / f"{len(sheets)}.png")
        done = run(
            f"--config={config}",
            "--config.stages.adversarial.steps=7",
            "--config.seed=3",
            *("-o", sheets[-1]),
        )
        assert done.exit_code == 0, done.stderr
    assert sheets[0].read_bytes() == sheets[1].read_bytes()


def test_errors_are_one_line(tmp_path):
    out, torn = tmp_path / "crops.png", tmp_path / "torn.json"
    torn.write_text("{")
    for arguments, words in [
        (["--config=absent.py"], "there is no configuration file absent.py"),
        ([f"--config={CONFIG}", "--config.data.sorce=x"], "sorce"),
        ([f"--config={CONFIG}", "--config.data.source=what"], "unknown source 'what'"),
        ([f"--config={CONFIG}", "--crop=3"], "crop"),
        ([f"--config={torn}"], f"{torn} is not the config.json of a run"),
    ]:
        done = run(*arguments, "-o", out)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert not out.exists()


def test_the_format_is_checked_before_any_image_is_read(tmp_path):
    done = run(f"--config={CONFIG}", "-o", tmp_path / "crops.gif")
    assert done.exit_code == 2
    assert "crops.gif: the suffix names no format; expected .png" in done.stderr


def test_a_missing_folder_is_named(folder, tmp_path):
    out = tmp_path / "absent" / "crops.png"
    arguments = (f"--config.data.source=folder:{folder}", "--config.data.crop=32")
    done = run(f"--config={CONFIG}", *arguments, "-o", out)
    assert done.exit_code == 2
    assert str(out) in done.stderr
