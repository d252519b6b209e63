"""Runs of earlier versions can be resumed and reported.

Each archive holds a run of the tests' tiny configuration (two stages of 3 steps) whose
last checkpoint is that of step 4, and the metrics of the same run uninterrupted.
"""

import json
import tarfile
from pathlib import Path

import pytest
import tiny

from srgan_jax.training import loop, resume, saved_config
from srgan_jax.training.resolve import resolve_config

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("version", ["0.1", "before-rebuild"])
def test_a_resumed_run_of_an_earlier_version_ends_as_recorded(
    version, tmp_path, capsys
):
    with tarfile.open(FIXTURES / f"run-{version}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    workdir = tmp_path / "run"
    given = saved_config.get_config(str(workdir / "config.json"))
    # The photographs have moved, but their names and sizes are the same.
    photographs = tiny.photographs(tmp_path / "elsewhere")
    given.data.source = given.evaluation.source = f"folder:{photographs}"
    recorded = resume.recorded_config(workdir)
    config = resolve_config(given, recorded=recorded)
    state = loop.train_and_evaluate(config, workdir)
    assert state.step == 6
    assert "resuming at step 4 of 6" in capsys.readouterr().err
    ours, theirs = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (workdir / "metrics.jsonl", tmp_path / "expected.jsonl")
    )
    ours, theirs = (
        {line["step"]: line for line in lines if "content" in line}
        for lines in (ours, theirs)
    )
    assert list(ours) == [1, 2, 3, 4, 5, 6]
    for step, expected in theirs.items():
        for name in expected.keys() - {"stage", "images_per_second"}:
            assert ours[step][name] == pytest.approx(expected[name], rel=1e-4), name
    summary = json.loads((workdir / "summary.json").read_text())
    assert list(summary["scores"]) == ["bicubic", "pretrain", "adversarial"]
    assert summary["images"] == 12
